/** Takes a failed schema request's answer off the response pane once it no longer holds. */

import { useGraphiQL } from "@graphiql/react";
import { useEffect, useRef } from "react";

/** Render nothing; without this, "a token is required" would stay after a token is given. */
export function OutdatedSchemaError() {
  const { fetchError, responseEditor } = useGraphiQL(({ fetchError, responseEditor }) => ({
    fetchError,
    responseEditor,
  }));
  const shown = useRef(fetchError);

  useEffect(() => {
    if (!fetchError && shown.current && responseEditor?.getValue() === shown.current) {
      responseEditor.setValue("");
    }
    shown.current = fetchError;
  }, [fetchError, responseEditor]);

  return null;
}
