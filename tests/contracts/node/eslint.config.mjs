// What @graphql-eslint demands of schema.graphql: its every rule for schemas, and Relay's for lists.
import graphql from "@graphql-eslint/eslint-plugin";

const SCHEMA = new URL("../../../schema.graphql", import.meta.url).pathname;

export default [
  {
    files: ["**/*.graphql"],
    languageOptions: {
      parser: graphql.parser,
      parserOptions: { graphQLConfig: { schema: SCHEMA } },
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    plugins: { "@graphql-eslint": graphql },
    rules: {
      ...graphql.configs["flat/schema-all"].rules,
      ...graphql.configs["flat/schema-relay"].rules,
      // It is for types alone unless it is told more.
      "@graphql-eslint/require-description": [
        "error",
        {
          types: true,
          rootField: true,
          DirectiveDefinition: true,
          EnumValueDefinition: true,
          FieldDefinition: true,
          InputValueDefinition: true,
        },
      ],
      // What is stored by itself has an id; these are parts and answers, which have none to give.
      "@graphql-eslint/strict-id-in-types": [
        "error",
        {
          acceptedIdNames: ["id"],
          acceptedIdTypes: ["ID"],
          exceptions: {
            suffixes: ["Payload", "Connection", "Edge", "Comparison", "Estimate", "Mean", "Progress"],
            types: [
              "CandidateDifference",
              "ChangeCount",
              "ChangedRow",
              "CheckedCandidate",
              "DatasetStatus",
              "DroppedCount",
              "DroppedRow",
              "Evaluation",
              "HuggingFaceCheck",
              "HuggingFaceMappedField",
              "HuggingFaceProblem",
              "HuggingFaceRow",
              "HumanCheck",
              "JobState",
              "MeanDifference",
              "MeanInterval",
              "PageInfo",
              "PartialScore",
              "PushReceipt",
              "PushSettings",
              "QuotaWindow",
              "RankingEntry",
              "Redaction",
              "RedactionCount",
              "RedactionPattern",
              "RedactionPreview",
              "Rejection",
              "RolloutStepArm",
              "RolloutVerdict",
              "RunState",
              "SnapshotDiff",
              "SnapshotLeak",
              "SnapshotLeakage",
              "TraceStatsPoint",
              "Viewer",
            ],
          },
        },
      ],
      // Small fixed lists are plain lists, and no client refetches by a Node interface.
      "@graphql-eslint/relay-edge-types": [
        "error",
        { withEdgeSuffix: true, shouldImplementNode: false, listTypeCanWrapOnlyEdgeType: false },
      ],
      // Fields are in the order in which a reader needs them.
      "@graphql-eslint/alphabetize": "off",
      // It is for schemas that may not be written to.
      "@graphql-eslint/no-root-type": "off",
      // A payload has what changed, and its edges lead on from there.
      "@graphql-eslint/require-field-of-type-query-in-mutation-result": "off",
      // A root field that can't be answered fails its operation, and types already generated say so.
      "@graphql-eslint/require-nullable-result-in-root": "off",
    },
  },
];
