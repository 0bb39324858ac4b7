/** The operations in the tabs of a first visit, in order; each is a file, and its name the tab's. */

import addCandidate from "./examples/add-candidate.graphql?raw";
import createLeaderboard from "./examples/create-leaderboard.graphql?raw";
import infer from "./examples/infer.graphql?raw";
import leaderboards from "./examples/leaderboards.graphql?raw";
import startRun from "./examples/start-run.graphql?raw";

export const EXAMPLES = [leaderboards, createLeaderboard, addCandidate, startRun, infer].map(
  (query) => ({ query }),
);
