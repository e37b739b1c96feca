// Copies the libraries of package.json into dashboard/vendor, each as one module that imports its neighbours by relative paths
// (an import map would be an inline script). Run after changing a version: `node tests/dashboard/vendor.mjs`.
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const from = join(here, "node_modules");
const to = join(here, "../../dashboard/vendor");

/** @type {[string, string, string][]} what is read, what it is called, whose licence it has */
const modules = [
  ["preact/dist/preact.mjs", "preact.js", "preact"],
  ["preact/hooks/dist/hooks.mjs", "preact-hooks.js", "preact"],
  ["@preact/signals-core/dist/signals-core.mjs", "signals-core.js", "@preact/signals-core"],
  ["@preact/signals/dist/signals.mjs", "signals.js", "@preact/signals"],
  ["htm/dist/htm.mjs", "htm.js", "htm"],
];
const names = {
  "preact": "./preact.js",
  "preact/hooks": "./preact-hooks.js",
  "@preact/signals-core": "./signals-core.js",
};

for (const [path, name, owner] of modules) {
  const text = readFileSync(join(from, path), "utf8")
    .replace(/(from|import)\s*"([^"]+)"/g, (_, word, module) => {
      if (!names[module]) throw new Error(`${path} imports ${module}, which is not here`);
      return `${word}"${names[module]}"`;
    })
    .replace(/\n?\/\/# sourceMappingURL=.*\s*$/, "\n");
  const { version } = JSON.parse(readFileSync(join(from, owner, "package.json"), "utf8"));
  writeFileSync(join(to, name), `/*! ${owner} ${version}, see LICENSE-${owner.replace(/[@/]+/g, "-").replace(/^-/, "")} */\n${text}`);
  copyFileSync(join(from, owner, "LICENSE"), join(to, `LICENSE-${owner.replace(/[@/]+/g, "-").replace(/^-/, "")}`));
}
// uPlot's module build is not minified; its script build is.
const uplot = readFileSync(join(from, "uplot/dist/uPlot.iife.min.js"), "utf8").trimEnd();
writeFileSync(join(to, "uplot.js"), `${uplot}\nexport default uPlot;\n`);
copyFileSync(join(from, "uplot/dist/uPlot.min.css"), join(to, "uplot.css"));
copyFileSync(join(from, "uplot/LICENSE"), join(to, "LICENSE-uplot"));
