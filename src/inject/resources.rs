//! What ebb's container asks for, and what it may use.

use serde_json::{Map, Value};

use super::list_at;
use super::settings::Settings;

/// One of a container's resources.
struct Resource<'a> {
    name: &'a str,
    request: Option<&'a String>,
    limit: Option<&'a String>,
    /// What it requests and may use when nobody asks for anything else.
    default: (&'a str, Option<&'a str>),
    /// Both of these in a pod of QoS class Guaranteed.
    guaranteed: &'a str,
}

/// Small requests and a bound on memory; a pod whose containers all have what they ask for keeps that (QoS class Guaranteed).
///
/// # Errors
/// When more is requested than may be used, which Kubernetes would refuse.
pub(super) fn resources(settings: &Settings, spec: &Value) -> Result<Map<String, Value>, String> {
    let (mut requests, mut limits) = (Map::new(), Map::new());
    let all = [
        Resource {
            name: "cpu",
            request: settings.cpu.as_ref(),
            limit: settings.cpu_limit.as_ref(),
            default: ("10m", None),
            guaranteed: "100m",
        },
        Resource {
            name: "memory",
            request: settings.memory.as_ref(),
            limit: settings.memory_limit.as_ref(),
            default: ("16Mi", Some("128Mi")),
            guaranteed: "128Mi",
        },
    ];
    for resource in all {
        let (request, limit) = resource.chosen(spec)?;
        requests.extend(request.map(|request| (resource.name.to_owned(), request.into())));
        limits.extend(limit.map(|limit| (resource.name.to_owned(), limit.into())));
    }
    let both = [("requests", requests), ("limits", limits)].into_iter();
    Ok(both.filter(|(_, all)| !all.is_empty()).map(|(key, all)| (key.to_owned(), all.into())).collect())
}

impl Resource<'_> {
    /// Request and limit. What was not asked for gives way to what was.
    fn chosen(&self, spec: &Value) -> Result<(Option<String>, Option<String>), String> {
        let (request, limit) = (self.request.cloned(), self.limit.cloned());
        let whole = ["requests", "limits"].map(|kind| format!("/resources/{kind}/{}", self.name));
        if whole.iter().any(|pointer| spec.pointer(pointer).is_some()) {
            // The pod has it as a whole, which its containers share and must not exceed.
            return Ok((request, limit));
        }
        let guaranteed = is_guaranteed(spec);
        Ok(match (request, limit) {
            (Some(request), Some(limit)) if exceeds(&request, &limit) => {
                let name = self.name;
                return Err(format!(
                    "--{name} {request} is more than --{name}-limit {limit}: raise the one or lower the other"
                ));
            }
            (Some(request), None) if guaranteed => (Some(request.clone()), Some(request)),
            (None, Some(limit)) if guaranteed => (Some(limit.clone()), Some(limit)),
            (None, None) if guaranteed => {
                (Some(self.guaranteed.to_owned()), Some(self.guaranteed.to_owned()))
            }
            (None, Some(limit)) if exceeds(self.default.0, &limit) => (Some(limit.clone()), Some(limit)),
            (Some(request), None) if self.default.1.is_some_and(|limit| exceeds(&request, limit)) => {
                (Some(request.clone()), Some(request))
            }
            (request, limit) => (
                Some(request.unwrap_or_else(|| self.default.0.to_owned())),
                limit.or_else(|| self.default.1.map(str::to_owned)),
            ),
        })
    }
}

fn is_guaranteed(spec: &Value) -> bool {
    let mut all = list_at(spec, "containers").iter().chain(list_at(spec, "initContainers"));
    all.all(|container| {
        let of = |kind: &str, what: &str| container.pointer(&format!("/resources/{kind}/{what}"));
        ["cpu", "memory"].iter().all(|what| {
            let limit = of("limits", what);
            limit.is_some() && of("requests", what).is_none_or(|request| Some(request) == limit)
        })
    })
}

fn exceeds(request: &str, limit: &str) -> bool {
    amount(request) > amount(limit)
}

/// What a quantity of Kubernetes comes to: `100m`, `0.5`, `128Mi`, `1e6`; never less than nothing.
pub(super) fn amount(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => f64::powi(1024.0, 2),
        "Gi" => f64::powi(1024.0, 3),
        "Ti" => f64::powi(1024.0, 4),
        "Pi" => f64::powi(1024.0, 5),
        "Ei" => f64::powi(1024.0, 6),
        exponent => f64::powi(10.0, exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    number.parse::<f64>().ok().map(|number| number * factor).filter(|amount| amount.is_finite())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Guards: every way to write a quantity, and what is none: the API server would refuse the whole pod.
    #[test]
    fn amounts() {
        for (text, expected) in [
            ("10m", 0.01),
            ("0.5", 0.5),
            (".5", 0.5),
            ("2.", 2.0),
            ("128Mi", 134_217_728.0),
            ("1k", 1000.0),
            ("1E", 1e18),
            ("1e3", 1000.0),
            ("5E-1", 0.5),
        ] {
            assert_eq!(amount(text), Some(expected), "{text}");
        }
        for text in ["", "lots", "-1", "1.2.3", ".", "Mi", "1MB", "1 Mi", "1mi", "1K", "1e", "1e999", "0x10"]
        {
            assert_eq!(amount(text), None, "{text}");
        }
    }

    /// Guards: a request above its limit, whichever of the two was asked for.
    #[test]
    fn what_is_requested_may_be_used() {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let of = |spec: Value, request: Option<&str>, limit: Option<&str>| {
            let settings =
                Settings { memory: text(request), memory_limit: text(limit), ..Settings::default() };
            let all = Value::from(resources(&settings, &spec)?);
            let at = |kind: &str| {
                all.pointer(&format!("/{kind}/memory")).and_then(Value::as_str).map(str::to_owned)
            };
            Ok::<_, String>((at("requests"), at("limits")))
        };
        let both = |request: &str, limit: &str| Ok((Some(request.to_owned()), Some(limit.to_owned())));
        let any = json!({"containers": [{}]});
        assert_eq!(of(any.clone(), None, None), both("16Mi", "128Mi"));
        assert_eq!(of(any.clone(), Some("64Mi"), None), both("64Mi", "128Mi"));
        assert_eq!(of(any.clone(), Some("1Gi"), None), both("1Gi", "1Gi"));
        assert_eq!(of(any.clone(), None, Some("8Mi")), both("8Mi", "8Mi"));
        assert_eq!(of(any.clone(), None, Some("1Gi")), both("16Mi", "1Gi"));
        assert!(
            of(any, Some("1Gi"), Some("1023Mi")).is_err_and(|error| error.contains("--memory-limit 1023Mi"))
        );
        let guaranteed = json!({"containers": [{"resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}]});
        assert_eq!(of(guaranteed.clone(), None, None), both("128Mi", "128Mi"));
        assert_eq!(of(guaranteed, Some("64Mi"), None), both("64Mi", "64Mi"));
        // The pod's own, which no container may exceed.
        let whole = json!({"resources": {"limits": {"memory": "100Mi"}}, "containers": [{}]});
        assert_eq!(of(whole.clone(), None, None), Ok((None, None)));
        assert_eq!(of(whole, Some("8Mi"), None), Ok((Some("8Mi".to_owned()), None)));
    }
}
