// Makes a component of a core module: node build.mjs words.core.wasm ../../wit/plugin.wit words.wasm [stateful-plugin]

import { readFile, writeFile } from "node:fs/promises";
import { componentEmbed, componentNew } from "@bytecodealliance/jco";

const [core, wit, component, world = "plugin"] = process.argv.slice(2);
const typed = await componentEmbed({
  binary: await readFile(core),
  witSource: await readFile(wit, "utf8"),
  world,
});
await writeFile(component, await componentNew(typed, []));
