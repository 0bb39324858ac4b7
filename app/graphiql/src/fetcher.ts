/** How operations reach the server: JSON over POST, and server-sent events for subscriptions. */

import type { Fetcher, FetcherParams, FetcherResultPayload } from "@graphiql/toolkit";
import { getOperationAST, parse } from "graphql";

const JSON_TYPES = "application/graphql-response+json, application/json;q=0.9";
const EVENTS_TYPE = "text/event-stream";

interface Observer {
  next: (result: FetcherResultPayload) => void;
  error: (error: unknown) => void;
  complete: () => void;
}

/**
 * Make the function GraphiQL sends operations with.
 *
 * Args: `url` is the GraphQL endpoint; `token` the API token, "" for none. A header typed into
 * GraphiQL's own editor wins over the token.
 */
export function createFetcher(url: string, token: string): Fetcher {
  function post(params: FetcherParams, typed: HeadersInit, accept: string, signal?: AbortSignal) {
    const headers = new Headers({ accept, "content-type": "application/json" });
    if (token) headers.set("authorization", `Bearer ${token}`);
    new Headers(typed).forEach((value, name) => headers.set(name, value));
    return fetch(url, { method: "POST", headers, body: JSON.stringify(params), signal });
  }

  return (params, options) => {
    const typed = options?.headers ?? {};
    if (!isSubscription(params)) {
      return post(params, typed, JSON_TYPES).then(readResult);
    }
    return {
      subscribe(observer: Observer) {
        const abort = new AbortController();
        post(params, typed, `${EVENTS_TYPE}, ${JSON_TYPES}`, abort.signal)
          .then((response) => forwardResults(response, observer))
          .then(observer.complete)
          .catch((error) => abort.signal.aborted || observer.error(error));
        return { unsubscribe: () => abort.abort() };
      },
    };
  };
}

/** Read what is sent, as GraphiQL's own parse of the document may lag behind it. */
function isSubscription({ query, operationName }: FetcherParams): boolean {
  try {
    return getOperationAST(parse(query), operationName)?.operation === "subscription";
  } catch {
    return false; // the server words the syntax error
  }
}

/** Return the GraphQL result of an answer, or say what came instead (a proxy's page, say). */
async function readResult(response: Response): Promise<FetcherResultPayload> {
  const body = await response.text();
  try {
    return JSON.parse(body);
  } catch {
    throw new Error(`HTTP ${response.status} ${response.statusText}, not JSON: ${body}`);
  }
}

/** Pass on each `next` event; the answer to a refused subscription is a single JSON result. */
async function forwardResults(response: Response, observer: Observer): Promise<void> {
  if (!response.headers.get("content-type")?.startsWith(EVENTS_TYPE)) {
    observer.next(await readResult(response));
    return;
  }
  let rest = "";
  for await (const text of chunksOf(response.body!.pipeThrough(new TextDecoderStream()))) {
    const events = (rest + text).replaceAll("\r\n", "\n").split("\n\n");
    rest = events.pop()!;
    for (const event of events) {
      const fields = new Map(event.split("\n").map((line) => splitOnce(line, ": ")));
      if (fields.get("event") === "next") observer.next(JSON.parse(fields.get("data")!));
    }
  }
}

async function* chunksOf(stream: ReadableStream<string>): AsyncGenerator<string> {
  const reader = stream.getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + separator.length)];
}
