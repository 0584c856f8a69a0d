//! What Vertex AI tells a container in its environment, in variables that begin with `AIP_`.

use std::collections::BTreeMap;

use super::SettingsError;

/// Where Vertex AI looks for health and predictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    pub port: u16,
    pub health_route: String,
    pub predict_route: String,
}

impl Vertex {
    /// Reads `AIP_HTTP_PORT`, `AIP_HEALTH_ROUTE` and `AIP_PREDICT_ROUTE`.
    ///
    /// # Errors
    /// When one of them is missing or can't be used.
    pub(super) fn read(environment: &BTreeMap<String, String>) -> Result<Self, SettingsError> {
        let variable = |name: &'static str, allowed, fits: fn(&str) -> bool| {
            let value = environment.get(name).map_or("", String::as_str);
            match fits(value) {
                true => Ok(value.to_owned()),
                false => Err(SettingsError::Vertex {
                    name,
                    value: value.to_owned(),
                    allowed,
                }),
            }
        };
        let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
        let port = variable("AIP_HTTP_PORT", "a port from 1 to 65535", is_port)?;
        let path = |name| {
            let is_path =
                |text: &str| text.starts_with('/') && !text.contains(['{', '}', '?', '#']);
            variable(name, "a path that begins with /", is_path)
        };
        Ok(Self {
            port: port.parse().unwrap_or_default(),
            health_route: path("AIP_HEALTH_ROUTE")?,
            predict_route: path("AIP_PREDICT_ROUTE")?,
        })
    }
}
