use std::collections::BTreeSet;

/// The feature table of the crate page names the features of the manifest, and no others.
#[test]
fn the_feature_table_is_the_manifests() {
    let manifest = include_str!("../../Cargo.toml");
    let section = manifest.split("[features]").nth(1).unwrap().split("\n[").next().unwrap();
    let features: BTreeSet<&str> = section
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .filter(|name| *name != "default")
        .collect();
    let page = include_str!("../../README.md");
    let table = page.split("# Features").nth(1).unwrap();
    let documented: BTreeSet<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(documented, features);
}
