//! `--shard I/N`: one of N parts of the pictures, so that several machines share them.

use std::str::FromStr;

/// The part with this number, from 1, of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    number: u64,
    of: u64,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let parts = parts.and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((number, of)) if 1 <= number && number <= of => Ok(Self { number, of }),
            _ => Err("write I/N: part I of N, such as 1/4 to 4/4".to_owned()),
        }
    }
}

impl Shard {
    /// Whether a picture is in this part. Only its name decides, so that it stays in its part when
    /// other pictures are added or removed.
    pub fn has(self, name: &str) -> bool {
        let hash = blake3::hash(name.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(first) % self.of == self.number - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_in_one_part_and_the_parts_are_about_equal() {
        let parts: Vec<Shard> = ["1/3", "2/3", "3/3"].map(|it| it.parse().unwrap()).into();
        let mut counts = [0; 3];
        for number in 0..3000 {
            let name = format!("photos/{number}.jpg");
            let within: Vec<_> = (0..3).filter(|part| parts[*part].has(&name)).collect();
            assert_eq!(within.len(), 1, "{name}");
            counts[within[0]] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)));
        // A run that goes on with another version of this program must find the same parts.
        assert!(parts[1].has("a.jpg") && parts[0].has("b.jpg"), "changed");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
