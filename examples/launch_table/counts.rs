//! What the fake driver has counted.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::ops::Sub;

use anyhow::{Context, Result, bail, ensure};

/// The driver in this process, if it is the fake one.
#[derive(Clone, Copy)]
pub struct FakeDriver {
    counts: unsafe extern "C" fn() -> *mut c_char,
}

/// Calls by category, such as `launch`, and name, such as the kernel's.
#[derive(Debug, Clone, Default)]
pub struct Counts(BTreeMap<(String, String), u64>);

impl FakeDriver {
    /// # Errors
    /// When this process has another driver or none.
    pub fn find() -> Result<Self> {
        // SAFETY: the name is a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"fake_driver_counts".as_ptr()) };
        if found.is_null() {
            bail!("the fake driver is not there; run tools/gpu/fake-driver/check.sh");
        }
        // SAFETY: that is the function's type, see tools/gpu/fake-driver/counts.c.
        let counts = unsafe {
            std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn() -> *mut c_char>(found)
        };
        Ok(Self { counts })
    }

    /// All calls so far.
    ///
    /// # Errors
    /// When the driver's text is not as expected.
    pub fn counts(self) -> Result<Counts> {
        // SAFETY: it takes nothing, and gives a text that is the caller's.
        let text = unsafe { (self.counts)() };
        ensure!(!text.is_null(), "the fake driver gives no counts");
        // SAFETY: a C string, which is copied before it is freed.
        let copied = unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned();
        // SAFETY: it was allocated by malloc and is not used any more.
        unsafe { libc::free(text.cast()) };
        Counts::parse(&copied)
    }
}

impl Counts {
    fn parse(text: &str) -> Result<Self> {
        let line = |line: &str| {
            let mut parts = line.split('\t').map(str::to_owned);
            let mut part = || parts.next().with_context(|| format!("a count of {line:?}"));
            Ok(((part()?, part()?), part()?.parse()?))
        };
        text.lines().map(line).collect::<Result<_>>().map(Self)
    }

    /// Calls of a category.
    pub fn of(&self, category: &str) -> u64 {
        let of = self.0.iter().filter(|((it, _), _)| it == category);
        of.map(|(_, calls)| calls).sum()
    }

    /// Calls of a category under a name.
    pub fn named(&self, category: &str, name: &str) -> u64 {
        let key = (category.to_owned(), name.to_owned());
        self.0.get(&key).copied().unwrap_or(0)
    }

    /// What was launched, by name.
    pub fn launched(&self) -> impl Iterator<Item = (&str, u64)> {
        let launches = |category: &str| category == "launch" || category == "product";
        let all = self.0.iter();
        all.filter(move |((category, _), calls)| launches(category) && **calls > 0)
            .map(|((_, name), calls)| (name.as_str(), *calls))
    }
}

impl Sub for &Counts {
    type Output = Counts;

    /// What came after `earlier`.
    fn sub(self, earlier: &Counts) -> Counts {
        let since = |(key, calls): (&(String, String), &u64)| {
            let before = earlier.0.get(key).copied().unwrap_or(0);
            (key.clone(), calls - before)
        };
        Counts(self.0.iter().map(since).collect())
    }
}
