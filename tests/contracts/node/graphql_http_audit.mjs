// Runs the audit of the GraphQL over HTTP specification on the server named by the first argument,
// with the credential that is the second, if there is one, and prints its results as JSON.
import { auditServer } from "graphql-http";

const [url, authorization] = process.argv.slice(2);

const credential = authorization ? { authorization } : {};
const results = await auditServer({
  url,
  fetchFn: (resource, options = {}) =>
    fetch(resource, { ...options, headers: { ...options.headers, ...credential } }),
});
console.log(
  JSON.stringify(
    results.map(({ id, name, status, reason }) => ({ id, name, status, reason: reason ?? null })),
  ),
);
