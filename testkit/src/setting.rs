//! Where the test servers are.

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

/// The settings of a stack of this process' own.
static OWN: OnceLock<HashMap<String, String>> = OnceLock::new();

/// From now on this process' settings are those of the stack that wrote them to this file.
///
/// # Panics
///
/// Where the file can't be read.
pub fn use_stack(env: &Path) {
    let text = std::fs::read_to_string(env).expect("a stack writes its settings down");
    OWN.get_or_init(|| pairs(&text).map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
}

/// What a file of settings says.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.trim_start_matches("export ").split_once('=')?;
        Some((key, value.trim_matches(['\'', '"'])))
    })
}

/// A setting of the running stack: from the environment, else from what the stack wrote down.
///
/// # Panics
///
/// Where there is none, with how to start the servers.
pub fn setting(name: &str) -> String {
    if let Some(value) = OWN.get().and_then(|own| own.get(name)) {
        return value.clone();
    }
    if let Some(value) = std::env::var(name).ok().filter(|value| !value.is_empty()) {
        return value;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is the parent");
    let stacks = [".stack-test/env", ".stack/env"];
    let found = stacks.iter().find_map(|stack| {
        let text = std::fs::read_to_string(root.join(stack)).ok()?;
        pairs(&text).find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    });
    found.unwrap_or_else(|| {
        panic!(
            "{name} is not known: run `make test`, or start the servers with \
             `STACK_DIR=.stack-test STACK_PORT_OFFSET=10000 dev/stack servers`"
        )
    })
}
