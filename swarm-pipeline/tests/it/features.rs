/// The features that the crate page lists are those of the manifest.
#[test]
fn the_feature_table_is_the_manifests() {
    let section = |text: &'static str, from: &str, to: &str| {
        text.split_once(from)
            .unwrap()
            .1
            .split_once(to)
            .unwrap()
            .0
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let manifest = section(include_str!("../../Cargo.toml"), "[features]", "[dependencies]");
    let manifest: Vec<String> = manifest
        .iter()
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name.to_owned()))
        .filter(|name| name != "default" && !name.starts_with('#'))
        .collect();
    let page = section(include_str!("../../README.md"), "| feature | adds |", "\n\n");
    let page: Vec<String> = page
        .iter()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    assert_eq!(page, manifest);
}
