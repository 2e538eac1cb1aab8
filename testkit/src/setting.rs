//! Where the test servers are.

use std::path::Path;

/// A setting of the running stack: from the environment, else from what the stack wrote down.
///
/// # Panics
///
/// Where there is none, with how to start the servers.
pub fn setting(name: &str) -> String {
    if let Some(value) = std::env::var(name).ok().filter(|value| !value.is_empty()) {
        return value;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is the parent");
    let stacks = [".stack-test/env", ".stack/env"];
    let found = stacks.iter().find_map(|stack| {
        let text = std::fs::read_to_string(root.join(stack)).ok()?;
        text.lines().find_map(|line| {
            let (key, value) = line.trim_start_matches("export ").split_once('=')?;
            (key == name).then(|| value.trim_matches(['\'', '"']).to_owned())
        })
    });
    found.unwrap_or_else(|| {
        panic!(
            "{name} is not known: run `make test`, or start the servers with \
             `STACK_DIR=.stack-test STACK_PORT_OFFSET=10000 dev/stack servers`"
        )
    })
}
