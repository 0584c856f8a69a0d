//! YOLO labels, as Ultralytics reads them: <https://docs.ultralytics.com/datasets/detect/>.
//!
//! A folder with `data.yaml`, `classes.txt`, and in `labels` one text per picture, with a line
//! `class cx cy width height` per object, from 0 to 1.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{bail, ensure};

use super::super::record::Record;

/// The class of objects that the model gave no label.
const UNNAMED: &str = "unnamed";

/// Checks that each picture can have a label of its own.
///
/// # Errors
/// When two can't, or `folder` is no folder.
pub fn check<'a>(folder: &Path, names: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    ensure!(!folder.exists() || folder.is_dir(), "this is no folder");
    let mut labels: HashMap<PathBuf, &str> = HashMap::new();
    for name in names {
        if let Some(other) = labels.insert(label_path(name), name)
            && other != name
        {
            bail!("{other} and {name} would have the same label; they differ only in their ending");
        }
    }
    Ok(())
}

/// Writes the folder; labels of other pictures in it stay.
///
/// # Errors
/// When a file can't be written.
pub fn write(folder: &Path, records: &[Record]) -> anyhow::Result<()> {
    check(folder, records.iter().map(|record| record.file.as_str()))?;
    let classes = classes(records);
    let numbers: BTreeMap<&str, usize> = classes.iter().copied().zip(0..).collect();
    for record in records {
        let path = folder.join("labels").join(label_path(&record.file));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, lines(record, &numbers))?;
    }
    fs::create_dir_all(folder)?;
    let names: String = classes.iter().map(|name| format!("{name}\n")).collect();
    fs::write(folder.join("classes.txt"), names)?;
    fs::write(folder.join("data.yaml"), data_yaml(&classes))?;
    Ok(())
}

/// The names that the prompt asks for, in its order, and then any others that the model gave, sorted:
/// so that a class has the same number in every part of the pictures.
fn classes(records: &[Record]) -> Vec<&str> {
    let prompt = records.first().map_or("", |record| &record.asked.prompt);
    let asked = prompt.split_once(' ').map_or("", |(_, names)| names);
    let mut classes: Vec<&str> = Vec::new();
    for name in asked.split(" ; ").filter(|name| !name.is_empty()) {
        if !classes.contains(&name) {
            classes.push(name);
        }
    }
    let given: BTreeSet<&str> = records.iter().flat_map(labels).collect();
    let others: Vec<_> = given
        .into_iter()
        .filter(|name| !classes.contains(name))
        .collect();
    classes.extend(others);
    classes
}

fn labels(record: &Record) -> impl Iterator<Item = &str> {
    let objects = record.objects.iter().flatten();
    objects.map(|found| class(&found.object.label))
}

fn class(label: &str) -> &str {
    match label {
        "" => UNNAMED,
        label => label,
    }
}

fn lines(record: &Record, numbers: &BTreeMap<&str, usize>) -> String {
    let mut lines = String::new();
    for found in record.objects.iter().flatten() {
        let corners = &found.object.box_normalized;
        let class = numbers[class(&found.object.label)];
        let (x, y) = (
            corners.x0.midpoint(corners.x1),
            corners.y0.midpoint(corners.y1),
        );
        let (width, height) = (corners.x1 - corners.x0, corners.y1 - corners.y0);
        let _ = writeln!(lines, "{class} {x:.6} {y:.6} {width:.6} {height:.6}");
    }
    lines
}

/// Where a picture's label is, below `labels`: its name with another ending. What would lead out of
/// the folder is left out.
fn label_path(name: &str) -> PathBuf {
    let parts = Path::new(name).components();
    let path: PathBuf = parts
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    path.with_extension("txt")
}

/// What Ultralytics trains with: the pictures are to lie in `images`, under their names.
fn data_yaml(classes: &[&str]) -> String {
    let mut yaml = "train: images\nval: images\nnames:\n".to_owned();
    for (number, name) in classes.iter().enumerate() {
        // A text in JSON is one in YAML.
        let _ = writeln!(yaml, "  {number}: {}", serde_json::Value::from(*name));
    }
    yaml
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(file: &str, labels: &[&str]) -> Record {
        let objects: Vec<_> = labels
            .iter()
            .map(|label| {
                serde_json::json!({"label": label, "box": {"x0": 10.0, "y0": 0.0, "x1": 30.0, "y1": 50.0},
                    "box_normalized": {"x0": 0.1, "y0": 0.0, "x1": 0.3, "y1": 1.0}, "score": 0.5})
            })
            .collect();
        let record = serde_json::json!({"file": file, "model": "demo", "prompt": "detect traffic light ; car",
            "width": 100, "height": 50, "objects": objects, "finish_reason": "stop"});
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn classes_are_numbered_as_they_were_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let records = [
            record("a/b.jpg", &["car", "a: bus", "", "traffic light"]),
            record("../c.png", &[]),
        ];
        write(folder.path(), &records).unwrap();
        let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
        assert_eq!(read("classes.txt"), "traffic light\ncar\na: bus\nunnamed\n");
        let yaml: serde_json::Value = serde_yaml_ng::from_str(&read("data.yaml")).unwrap();
        assert_eq!(yaml["names"]["2"], "a: bus");
        let box_ = "0.200000 0.500000 0.200000 1.000000\n";
        let expected: String = [1, 2, 3, 0].map(|class| format!("{class} {box_}")).concat();
        assert_eq!(read("labels/a/b.txt"), expected);
        assert_eq!(read("labels/c.txt"), "");
    }

    #[test]
    fn pictures_that_differ_in_their_ending_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(folder.path(), ["a.jpg", "b/a.jpg", "a.jpg"].into_iter()).is_ok());
        let error = check(folder.path(), ["a.jpg", "a.png"].into_iter()).unwrap_err();
        assert!(error.to_string().contains("a.jpg and a.png"), "{error}");
    }
}
