use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::alert::{Alert, AlertState};
use crate::export::labels;
use crate::notify::Notification;

impl Notification {
    /// As Alertmanager's webhook receiver tells it, version 4, which most tools understand.
    pub fn to_webhook(&self) -> Value {
        json!({
            "version": "4",
            "groupKey": self.group_key(),
            "truncatedAlerts": 0,
            "status": status(self.state()),
            "receiver": self.route,
            "groupLabels": self.group,
            "commonLabels": common(self.alerts.iter().map(|alert| &alert.labels)),
            "commonAnnotations": common(self.alerts.iter().map(|alert| &alert.annotations)),
            "externalURL": "",
            "alerts": self.alerts.iter().map(webhook_alert).collect::<Vec<_>>(),
        })
    }

    /// As Alertmanager's own interface takes it: the body for `/api/v2/alerts`. A name that Prometheus does not allow, such as `http.method`,
    /// has underscores instead, as one that is not allowed is reason enough to refuse all.
    pub fn to_alertmanager(&self) -> Value {
        let alert = |alert: &Alert| {
            json!({
                "labels": named_plainly(&alert.labels),
                "annotations": named_plainly(&alert.annotations),
                "startsAt": stamp(alert.fired),
                "endsAt": stamp(alert.resolved.or(Some(self.valid_until))),
                "generatorURL": "",
            })
        };
        self.alerts.iter().map(alert).collect()
    }

    fn group_key(&self) -> String {
        let labels: Vec<String> =
            self.group.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        format!("{{}}:{{{}}}", labels.join(", "))
    }
}

fn webhook_alert(alert: &Alert) -> Value {
    json!({
        "status": status(alert.state),
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": stamp(alert.fired),
        // What Go makes of no time.
        "endsAt": alert.resolved.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| stamp(Some(at))),
        "generatorURL": "",
        "fingerprint": alert.id,
    })
}

fn named_plainly(texts: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let pairs: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (&**name, &**text)).collect();
    labels(&pairs, "", 0).into_iter().collect()
}

fn status(state: AlertState) -> &'static str {
    if state == AlertState::Resolved { "resolved" } else { "firing" }
}

fn stamp(time: Option<DateTime<Utc>>) -> String {
    time.unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// What is the same in all of them.
fn common<'a>(mut all: impl Iterator<Item = &'a BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let mut common = all.next().cloned().unwrap_or_default();
    for other in all {
        common.retain(|name, value| other.get(name) == Some(value));
    }
    common
}
