// Makes a component of words.js. The wasm file is named on the command line, or words.wasm.

import { readFile, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize(await readFile("words.js", "utf8"), {
  witPath: "../../wit",
  worldName: "plugin",
  disableFeatures: ["http", "fetch-event"],
});
await writeFile(process.argv[2] ?? "words.wasm", component);
