/** How the page is built: `src/` and `index.html` in, `../static/graphiql/` out. */

import { defineConfig } from "vite";

import { collectPackages, emitLicences } from "./licences.ts";

export default defineConfig({
  base: "/static/graphiql/",
  build: {
    outDir: "../static/graphiql",
    emptyOutDir: true,
    target: "es2022",
    sourcemap: false,
    reportCompressedSize: false,
    // Monaco is one indivisible chunk of this size.
    chunkSizeWarningLimit: 4000,
    // Files, not data: URLs, so that the policy for fonts can be 'self'.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      onwarn(warning, warn) {
        // "use client" means nothing to a page without server components.
        if (warning.code !== "MODULE_LEVEL_DIRECTIVE") warn(warning);
      },
    },
  },
  plugins: [collectPackages(), emitLicences("THIRD_PARTY_LICENSES.txt")],
  // The workers are bundles of their own, which only their own plugins see.
  worker: { format: "es", plugins: () => [collectPackages()] },
});
