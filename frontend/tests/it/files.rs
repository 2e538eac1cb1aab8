//! The files that the page is made of.

use http::Method;
use testkit::http::{Client, get};

use crate::console;

/// The paths of the files that the page names.
async fn named_in_page(url: &str) -> Vec<String> {
    let page = get(url).await.body;
    let page = page.as_str().unwrap();
    let named = page.split('"').filter(|text| text.starts_with("/assets/"));
    named.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_file_that_the_page_names_is_served_with_its_type_and_kept_for_ever() {
    let (running, url) = console(&[]).await;
    let paths = named_in_page(&url).await;
    assert!(paths.len() > 10, "{paths:?}");
    for path in paths {
        let answer = get(&format!("{url}{path}")).await;
        let expected = match path.rsplit('.').next().unwrap() {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            other => panic!("{path}: {other}"),
        };
        assert_eq!((answer.status, answer.header("content-type")), (200, expected), "{path}");
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable", "{path}");
        assert!(answer.header("etag").starts_with('"'), "{path}");
    }
    running.stop().await;
}

/// A module that is imported but not named in the page would be found one round trip later than the rest.
#[tokio::test]
async fn every_module_that_another_imports_is_named_in_the_page() {
    let (running, url) = console(&[]).await;
    let paths = named_in_page(&url).await;
    for path in paths.iter().filter(|path| path.contains("/js/")) {
        let (folder, _) = path.rsplit_once('/').unwrap();
        let text = get(&format!("{url}{path}")).await.body;
        let imports = text.as_str().unwrap().lines().filter(|line| line.starts_with("import "));
        for import in imports.filter_map(|line| line.split("\"./").nth(1)?.split('"').next()) {
            assert!(paths.contains(&format!("{folder}/{import}")), "{path} imports {import}");
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_is_held_is_not_sent_again() {
    let (running, url) = console(&[]).await;
    let file = format!("{url}{}", named_in_page(&url).await[0]);
    let tag = get(&file).await.header("etag").to_owned();
    for held in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let again =
            Client::default().send(Method::GET, &file, &[("if-none-match", &held)], "").await.unwrap();
        assert_eq!(
            (again.status, again.body.as_str(), again.header("etag")),
            (304, Some(""), &*tag),
            "{held}"
        );
    }
    let other =
        Client::default().send(Method::GET, &file, &[("if-none-match", "\"other\"")], "").await.unwrap();
    assert_eq!(other.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn the_files_of_another_build_are_not_to_be_kept() {
    let (running, url) = console(&[]).await;
    let answer = get(&format!("{url}/assets/0000000000000000/js/app.js")).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-cache"));
    running.stop().await;
}

#[tokio::test]
async fn a_head_request_has_the_headers_without_the_file() {
    let (running, url) = console(&[]).await;
    let head = Client::default().send(Method::HEAD, &url, &[], "").await.unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, Some("")));
    assert!(head.header("content-length").parse::<usize>().unwrap() > 1000);
    running.stop().await;
}
