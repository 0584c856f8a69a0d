//! The page at `/`, as a browser asks for it.

use reqwest::StatusCode;

use paligemma_test_support::server::{Server, assert_problem, read};

/// What `text` names in `before…after`.
fn named<'a>(text: &'a str, before: &str, after: char) -> Vec<&'a str> {
    let parts = text.split(before).skip(1);
    parts.filter_map(|part| part.split(after).next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_all_its_files_are_served_and_none_comes_from_elsewhere() {
    let server = Server::golden(&[]).await;
    let mut left = vec!["/".to_owned()];
    let mut seen: Vec<String> = Vec::new();
    while let Some(path) = left.pop() {
        if seen.contains(&path) {
            continue;
        }
        let response = server.get(&path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'self'"), "{policy}");
        let media_type = header("content-type");
        seen.push(path.clone());
        if media_type.starts_with("image/") {
            continue;
        }
        let text = response.text().await.unwrap();
        for reference in [named(&text, "src=\"", '"'), named(&text, "href=\"", '"')].concat() {
            match reference {
                _ if reference.starts_with("data:") || reference.starts_with('#') => {}
                // Links to read on, which the browser does not fetch by itself.
                "/openapi.yaml" | "/docs" => {}
                _ => left.push(reference.replacen("./", "/", 1)),
            }
        }
        for module in named(&text, "from \"./", '"') {
            left.push(format!("/{module}"));
        }
    }
    for path in ["/playground.css", "/playground.js", "/sse.js"] {
        assert!(
            seen.iter().any(|seen| seen == path),
            "{path} not in {seen:?}"
        );
    }
    let example = server.get("/examples/red-circle.png").send().await;
    assert_eq!(example.unwrap().headers()["content-type"], "image/png");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_no_key_but_the_model_does() {
    let server = Server::golden(&[("api_keys", "secret")]).await;
    let status = async |path: &str| server.get(path).send().await.unwrap().status();
    assert_eq!(status("/").await, StatusCode::OK);
    assert_eq!(status("/v1/models").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_page_loads_nothing_from_elsewhere() {
    let server = Server::golden(&[]).await;
    let response = server.get("/docs").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        response.headers()["content-type"],
        "text/html; charset=utf-8"
    );
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(policy.starts_with("default-src 'self'"), "{policy}");
    let page = response.text().await.unwrap();
    let files = [named(&page, "src=\"", '"'), named(&page, "href=\"", '"')].concat();
    assert!(files.contains(&"/favicon.svg"), "{files:?}");
    assert!(files.contains(&"/docs/swagger-ui-bundle.js"), "{files:?}");
    for file in files {
        let response = server.get(file).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{file}");
    }
    let with_slash = server.get("/docs/").send().await.unwrap();
    assert_eq!(with_slash.text().await.unwrap(), page);
    let script = server
        .get("/docs/swagger-initializer.js")
        .send()
        .await
        .unwrap();
    let script = script.text().await.unwrap();
    assert!(script.contains(r#""url": "/openapi.yaml""#), "{script}");
    assert!(!script.contains("http"), "{script}");
    let answer = read(server.get("/docs/nothing").send().await.unwrap()).await;
    let words = "there is no file `nothing` of the page `/docs`";
    assert_problem(&answer, 404, "not_found", words);
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_find_the_icon_where_they_look_for_it() {
    let server = Server::golden(&[("api_keys", "secret")]).await;
    for path in ["/favicon.svg", "/favicon.ico"] {
        let response = server.get(path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()["content-type"], "image/svg+xml");
        let icon = response.text().await.unwrap();
        assert!(icon.starts_with("<svg xmlns="), "{icon}");
    }
    let page = server.get("/").send().await.unwrap().text().await.unwrap();
    assert!(page.contains(r#"<link rel="icon" href="/favicon.svg">"#));
}
