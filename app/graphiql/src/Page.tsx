/** The whole page: a bar with the token field, and GraphiQL below it. */

import { GraphiQL } from "graphiql";
import { useEffect, useMemo, useState } from "react";

import { EXAMPLES } from "./examples";
import { createFetcher } from "./fetcher";
import { OutdatedSchemaError } from "./OutdatedSchemaError";
import { loadToken, saveToken, takeTokenFromAddress } from "./token";
import { TokenField } from "./TokenField";

export function Page() {
  const [token, setToken] = useState(() => takeTokenFromAddress() ?? loadToken());

  useEffect(() => saveToken(token), [token]);
  useEffect(() => {
    // A link with a token, opened in this tab, changes the fragment without loading the page.
    const onHashChange = () => setToken((current) => takeTokenFromAddress() ?? current);
    window.addEventListener("hashchange", onHashChange);
    return () => window.removeEventListener("hashchange", onHashChange);
  }, []);

  // A new fetcher is what makes GraphiQL read the schema again.
  const fetcher = useMemo(() => createFetcher(window.location.pathname, token), [token]);

  return (
    <>
      <header className="gero-bar">
        <h1>
          gero <span>GraphiQL</span>
        </h1>
        <TokenField token={token} onChange={setToken} />
      </header>
      <main className="gero-page">
        <GraphiQL
          fetcher={fetcher}
          defaultTabs={EXAMPLES}
          // GraphiQL's history keeps headers and variables whatever its settings say, and they
          // can hold tokens and provider keys: like the token, they go with the tab.
          storage={window.sessionStorage}
          shouldPersistHeaders={false}
          inputValueDeprecation
          schemaDescription
        >
          <GraphiQL.Logo>{null}</GraphiQL.Logo>
          <OutdatedSchemaError />
        </GraphiQL>
      </main>
    </>
  );
}
