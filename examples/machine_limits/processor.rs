//! The processor's name and what of its instructions matters here, from `/proc/cpuinfo`.

use std::fs;

/// Instructions for matrix products, as the kernel names them.
const INSTRUCTIONS: [&str; 9] = [
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "amx_tile",
];

pub struct Processor {
    /// Such as `AMD EPYC (Zen 3)`: cloud machines hide the model's number, not its generation.
    pub name: String,
    pub instructions: Vec<&'static str>,
}

impl Processor {
    /// Reads the first core's entry; `unknown` stands for what the system does not tell.
    pub fn read() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.trim_end().starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map_or("unknown", |(_, value)| value.trim())
        };
        let number = |name| field(name).parse().ok();
        let flags: Vec<&str> = field("flags").split(' ').collect();
        let generation = match (number("cpu family"), number("model\t")) {
            (Some(family), Some(model)) => match generation(field("vendor_id"), family, model) {
                Some(known) => known.to_owned(),
                // Some machines give a number that is not their processor's.
                None if flags.contains(&"amx_tile") => "with AMX".to_owned(),
                None => format!("family {family}, model {model}"),
            },
            _ => "unknown generation".to_owned(),
        };
        Self {
            name: format!("{} ({generation})", field("model name")).replace("(R)", ""),
            instructions: INSTRUCTIONS
                .into_iter()
                .filter(|name| flags.contains(name))
                .collect(),
        }
    }
}

/// The generation of a server's core by the numbers of CPUID.
fn generation(vendor: &str, family: u32, model: u32) -> Option<&'static str> {
    let known = match (vendor, family, model) {
        ("AuthenticAMD", 0x17, 0x30..) => "Zen 2",
        ("AuthenticAMD", 0x19, 0x10..=0x1f | 0x60..=0xaf) => "Zen 4",
        ("AuthenticAMD", 0x19, _) => "Zen 3",
        ("AuthenticAMD", 0x1a, _) => "Zen 5",
        ("GenuineIntel", 6, 0x55) => "Skylake or Cascade Lake",
        ("GenuineIntel", 6, 0x6a | 0x6c) => "Ice Lake",
        ("GenuineIntel", 6, 0x8f) => "Sapphire Rapids",
        ("GenuineIntel", 6, 0xcf) => "Emerald Rapids",
        ("GenuineIntel", 6, 0xad | 0xae) => "Granite Rapids",
        _ => return None,
    };
    Some(known)
}
