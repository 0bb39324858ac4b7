/** Build plugins that write the licence texts of every package in the bundle into one file. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

import type { Plugin } from "vite";

interface Manifest {
  name: string;
  version: string;
  license: string;
}

/** Directories of the packages that have contributed a module, page and workers together. */
const packageDirs = new Set<string>();

const LICENCE_FILE = /^(licen[cs]e|copying|notice|thirdpartynotices)[^/]*$/i;

/** Packages published without their licence file, and a package of the same authors that has it. */
const LICENCE_IN: Record<string, string> = {
  "@graphiql/plugin-doc-explorer": "graphiql",
  "@graphiql/plugin-history": "graphiql",
  "react-compiler-runtime": "react",
  "react-remove-scroll-bar": "react-remove-scroll",
};

/** Remember the packages whose modules end up in a bundle. */
export function collectPackages(): Plugin {
  return {
    name: "collect-packages",
    generateBundle() {
      for (const id of this.getModuleIds()) {
        const dir = packageDirOf(id);
        if (dir) packageDirs.add(dir);
      }
    },
  };
}

/** Write the remembered packages' licences to `fileName`; fail if one has no licence text. */
export function emitLicences(fileName: string): Plugin {
  return {
    name: "emit-licences",
    generateBundle() {
      const sections = new Map([...packageDirs].map((dir) => licenceSection(dir)));
      const source = [...sections]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([title, text]) => `${"=".repeat(80)}\n${title}\n${"=".repeat(80)}\n\n${text}\n`)
        .join("\n");
      this.emitFile({ type: "asset", fileName, source });
    },
  };
}

function packageDirOf(moduleId: string): string | undefined {
  if (moduleId.startsWith("\0") || !moduleId.includes("/node_modules/")) return undefined;
  let dir = dirname(moduleId.split("?")[0]!);
  // A nested package.json that only sets "type" has no name: the package is further up.
  while (!readManifest(dir)?.name) dir = dirname(dir);
  return dir;
}

function readManifest(dir: string): Manifest | undefined {
  const path = join(dir, "package.json");
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Manifest) : undefined;
}

function licenceSection(dir: string): [title: string, text: string] {
  const { name, version, license } = readManifest(dir)!;
  const lender = LICENCE_IN[name];
  const texts = licenceTexts(lender ? join("node_modules", lender) : dir);
  if (texts.length === 0) throw new Error(`${name} ${version} has no licence file`);
  return [`${name} ${version} (${license})`, texts.join("\n\n")];
}

function licenceTexts(dir: string): string[] {
  return readdirSync(dir)
    .filter((file) => LICENCE_FILE.test(file))
    .sort()
    .map((file) => readFileSync(join(dir, file), "utf8").replaceAll("\r\n", "\n").trim());
}
