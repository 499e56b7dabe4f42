//! Numbers, as they are printed.

use serde_json::json;

/// One number.
pub struct Number {
    pub name: String,
    pub ours: f64,
    pub rival: Option<f64>,
    pub ratio: Option<f64>,
    /// Number of rounds in which the machine gave all that was asked of it, where times were
    /// measured.
    pub undisturbed: Option<usize>,
}

impl Number {
    pub fn new(name: impl Into<String>, ours: f64) -> Self {
        Number { name: name.into(), ours, rival: None, ratio: None, undisturbed: None }
    }

    pub fn print(&self) {
        let Number { name, ours, rival, ratio, undisturbed } = self;
        println!(
            "{}",
            json!({ "name": name, "ours": ours, "rival": rival, "ratio": ratio, "undisturbed_rounds": undisturbed })
        );
    }
}
