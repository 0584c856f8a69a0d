//! More tasks in a request than are worked on at once.

use std::iter;
use std::sync::Arc;

use paligemma_test_support::server::{Server, read};
use paligemma_test_support::toy_model::{Control, Work};
use serde_json::{Value, json};

use super::{ON, PREDICT, body, results};
use crate::http::held::{is_prefill, run_until};
use crate::http::picture;

const TEXT: &str = "<TextArea name='t' toName='img'/>";
const TWO_TEXTS: &str = "<TextArea name='t' toName='img'/>
    <TextArea name='u' toName='img' model_prompt='ocr'/>";

/// A request about so many pictures.
fn tasks(count: u8, controls: &str) -> Value {
    let pictures: Vec<_> = (1..=count)
        .map(|number| picture::base64(40 * number))
        .collect();
    let pictures: Vec<_> = pictures.iter().map(String::as_str).collect();
    body(&pictures, controls)
}

fn all_work(control: &Control) -> Vec<Work> {
    iter::from_fn(|| control.work_done()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_them_are_labelled_in_their_order() {
    let server = Server::golden(&[ON, ("max_images", "2")]).await;
    let mut asked = tasks(5, TWO_TEXTS);
    asked["tasks"][3]["data"]["photo"] = json!("!");
    let together = results(&server, &asked).await;
    assert_eq!(together.len(), 5);
    for (index, prediction) in together.iter().enumerate() {
        if index == 3 {
            let error = (&prediction["error"]["code"], &prediction["error"]["param"]);
            assert_eq!(
                error,
                (&json!("invalid_base64"), &json!("tasks[3].data.photo"))
            );
            continue;
        }
        let mut alone = asked.clone();
        alone["tasks"] = json!([asked["tasks"][index]]);
        assert_eq!(results(&server, &alone).await[0], *prediction);
    }
    assert_ne!(together[0], together[4], "any order would do");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_images_are_in_work_than_a_request_may_have() {
    let control = Arc::new(Control::new());
    let server = Server::toy(&control, &[ON, ("max_images", "2")]).await;
    assert_eq!(results(&server, &tasks(5, TEXT)).await.len(), 5);
    let rows = |work: &Work| match work {
        Work::Encode { images } => *images,
        Work::Step { decode, prefill } => decode.len() + prefill.len(),
    };
    assert_eq!(all_work(&control).iter().map(rows).max(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_prompts_are_asked_than_the_queue_takes() {
    let small = [ON, ("slots", "1"), ("queue", "2")];
    let server = Server::toy(&Arc::new(Control::new()), &small).await;
    assert_eq!(results(&server, &tasks(5, TWO_TEXTS)).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_when_the_time_is_up_is_kept() {
    let control = Arc::new(Control::new());
    let settings = [
        ON,
        ("max_images", "1"),
        ("max_tokens_default", "1"),
        ("request_timeout", "2s"),
    ];
    let server = Server::toy(&control, &settings).await;
    control.hold();
    let asked = tasks(3, TEXT);
    let hold = async {
        run_until(&control, is_prefill).await;
        control.allow_one();
        run_until(&control, |work| matches!(work, Work::Encode { .. })).await;
    };
    let (predicted, ()) = tokio::join!(results(&server, &asked), hold);
    control.open();
    assert!(predicted[0]["result"].is_array(), "{predicted:?}");
    for late in &predicted[1..] {
        assert_eq!(late["error"]["code"], "deadline_exceeded");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_answer_about_few_images_names_their_keys() {
    let server = Server::golden(&[ON, ("max_images", "2")]).await;
    for (count, keys) in [(2, 2), (3, 0)] {
        let request = server.post(PREDICT).json(&tasks(count, TEXT));
        let response = server.send(request).await;
        let header = response.headers().get("x-image-key").cloned();
        assert!(read(response).await.0.is_success());
        let header = header.map_or(String::new(), |keys| keys.to_str().unwrap().to_owned());
        assert_eq!(
            header.split(',').filter(|key| !key.is_empty()).count(),
            keys
        );
    }
}
