//! The seeds of the fuzz target, of which some are what programs say.

use std::fs;
use std::path::Path;

use swarm_plugin::testing::said_by_a_program;

#[tokio::test]
async fn the_seeds_of_the_fuzz_target_lead_where_they_should() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/plugin_mcp_frames");
    for (name, tools) in [("tools", 1), ("pages", 1), ("beside", 0), ("long", 0)] {
        assert_eq!(said_by_a_program(&fs::read(seeds.join(name)).unwrap()).await, tools, "{name}");
    }
}
