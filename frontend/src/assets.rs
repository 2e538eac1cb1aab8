//! The files of the page, as they are in the binary.
//!
//! Each is served under a path with the version of the whole set in it: `/assets/{version}/js/app.js`. So a
//! browser may keep a file for ever, and never mixes the files of two builds; the modules import each other by
//! relative paths and need no build step for that.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use http::HeaderValue;
use rust_embed::RustEmbed;
use thiserror::Error;

/// The folder `assets/`.
#[derive(RustEmbed)]
#[folder = "assets"]
struct Folder;

/// One file, ready to be served.
#[derive(Clone, Debug)]
pub struct Asset {
    /// What is in it.
    pub content: Bytes,
    /// The media type, with the charset where it is text.
    pub media_type: &'static str,
    /// The strong entity tag (RFC 9110, 8.8.3).
    pub etag: HeaderValue,
}

/// Every file by its path below `assets/`, and the version of the set.
#[derive(Clone, Debug)]
pub struct Assets {
    files: BTreeMap<Cow<'static, str>, Asset>,
    version: String,
}

/// Why a file can't be served: a mistake in the build.
#[derive(Debug, Error)]
#[error("the media type of the asset {0} is not known")]
pub struct UnknownType(String);

impl Assets {
    /// The files of this binary.
    pub fn embedded() -> Result<Self, UnknownType> {
        let mut files = BTreeMap::new();
        let mut hasher = DefaultHasher::new();
        for path in Folder::iter() {
            let Some(file) = Folder::get(&path) else { continue };
            let content = match file.data {
                Cow::Borrowed(content) => Bytes::from_static(content),
                Cow::Owned(content) => Bytes::from(content),
            };
            (&path, &content).hash(&mut hasher);
            let asset = Asset::new(&path, content)?;
            files.insert(path, asset);
        }
        Ok(Self { files, version: format!("{:016x}", hasher.finish()) })
    }

    /// The file at `path`: `js/app.js`.
    pub fn get(&self, path: &str) -> Option<&Asset> {
        self.files.get(path)
    }

    /// The version of the set: another one as soon as any file is another. 16 hexadecimal digits.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl Asset {
    /// A file at `path`, whose ending says what it is.
    pub fn new(path: &str, content: Bytes) -> Result<Self, UnknownType> {
        let media_type = media_type(path).ok_or_else(|| UnknownType(path.to_owned()))?;
        Ok(Self { etag: etag(&content), content, media_type })
    }
}

/// The few kinds of file that the page is made of.
fn media_type(path: &str) -> Option<&'static str> {
    match path.rsplit_once('.')?.1 {
        "html" => Some("text/html; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

fn etag(content: &[u8]) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    let tag = HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish()));
    // Quotes and hexadecimal digits are a valid header.
    tag.unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_has_a_known_type() {
        let assets = Assets::embedded().unwrap();
        assert!(assets.get("index.html").is_some() && assets.get("js/app.js").is_some());
        assert_eq!(assets.version().len(), 16);
    }

    #[test]
    fn another_content_has_another_tag() {
        let of = |content| Asset::new("a.css", Bytes::from_static(content)).unwrap().etag;
        assert_eq!(of(b"a"), of(b"a"));
        assert_ne!(of(b"a"), of(b"b"));
        assert!(Asset::new("a.exe", Bytes::new()).is_err());
    }
}
