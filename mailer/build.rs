//! Makes the templates of `templates/` ready to be built in: each in its layout, with the styles of the
//! layout's `<style>` on the elements themselves, where every mail program heeds them.
//!
//! A template is a pair, `NAME.txt` and `NAME.html`; one that is added there is found here. Styles are inlined
//! over the template's source, so what is between `{{ }}` and `{% %}` goes through an HTML parser. The build
//! fails where it does not come out as it went in, as it would inside of a `<table>`, or with a `<` in it.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use css_inline::{CSSInliner, InlineOptions};

/// What stands in a layout for the template.
const CONTENT: &str = "<!-- content -->";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=templates");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut list = String::from("[\n");
    for name in names(Path::new("templates"))? {
        fs::write(out.join(format!("{name}.txt")), in_layout(&name, "txt")?)?;
        let html = in_layout(&name, "html")?;
        let inlined = inline(&html)?;
        let (before, after) = (expressions(&html), expressions(&inlined));
        if before != after {
            let lost: Vec<_> = before.iter().filter(|expression| !after.contains(expression)).collect();
            return Err(format!("templates/{name}.html: an HTML parser changes or moves {lost:?}").into());
        }
        fs::write(out.join(format!("{name}.html")), inlined)?;
        let included = |kind: &str| format!("include_str!(concat!(env!(\"OUT_DIR\"), \"/{name}.{kind}\"))");
        writeln!(
            list,
            "    Source {{ name: {name:?}, text: {}, html: {} }},",
            included("txt"),
            included("html")
        )?;
    }
    list.push_str("]\n");
    fs::write(out.join("sources.rs"), list)?;
    Ok(())
}

/// The names of the templates, in alphabetical order.
fn names(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).ok_or("a template without a name")?;
        if name != "layout" && path.extension().is_some_and(|kind| kind == "html") {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn in_layout(name: &str, kind: &str) -> Result<String, Box<dyn Error>> {
    let read = |name: &str| {
        let path = format!("templates/{name}.{kind}");
        fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
    };
    let (layout, template) = (read("layout")?, read(name)?);
    let (before, after) =
        layout.split_once(CONTENT).ok_or_else(|| format!("templates/layout.{kind} has no {CONTENT}"))?;
    Ok(format!("{before}{}{after}", template.trim_end()))
}

fn inline(html: &str) -> Result<String, Box<dyn Error>> {
    let options =
        InlineOptions { load_remote_stylesheets: false, minify_css: true, ..InlineOptions::default() };
    Ok(CSSInliner::new(options).inline(html)?)
}

/// What stands between `{{ }}`, `{% %}` and `{# #}`, in order.
fn expressions(template: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        rest = &rest[at..];
        let end = match rest.as_bytes().get(1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            _ => {
                rest = &rest[1..];
                continue;
            }
        };
        let length = rest.find(end).map_or(rest.len(), |at| at + end.len());
        found.push(&rest[..length]);
        rest = &rest[length..];
    }
    found
}
