use std::fmt::Write;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::alert::AlertState;
use crate::notify::http::Endpoint;
use crate::notify::{Notification, Notifier, NotifyError};

/// So many alerts are spelt out, and the rest counted.
const SPELT_OUT: usize = 10;
/// Slack takes more, but people do not. Discord takes 2,000.
const LONGEST: usize = 1_900;

/// Writes into a Slack channel by an incoming webhook (feature `http`).
#[derive(Debug, Clone)]
pub struct Slack {
    endpoint: Endpoint,
}

/// Writes into a Discord channel by its webhook (feature `http`). Nobody is pinged, whatever a label says.
#[derive(Debug, Clone)]
pub struct Discord {
    endpoint: Endpoint,
}

impl Slack {
    /// At the address that Slack gave, or at what speaks like Slack.
    pub fn new(endpoint: Endpoint) -> Self {
        Slack { endpoint }
    }
}

impl Discord {
    /// At the address that Discord gave, or at what speaks like Discord.
    pub fn new(endpoint: Endpoint) -> Self {
        Discord { endpoint }
    }
}

#[async_trait]
impl Notifier for Slack {
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        self.endpoint.post(slack(notification).to_string().into_bytes(), Vec::new()).await
    }
}

#[async_trait]
impl Notifier for Discord {
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        self.endpoint.post(discord(notification).to_string().into_bytes(), Vec::new()).await
    }
}

fn slack(notification: &Notification) -> Value {
    // Slack's markup begins with these, mentions too.
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({ "text": message(notification, "*", escape) })
}

fn discord(notification: &Notification) -> Value {
    let escape = |text: &str| {
        let special = |c: char| "\\*_~`|>#[]()<@:".contains(c);
        text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
    };
    json!({ "content": message(notification, "**", escape), "allowed_mentions": { "parse": [] } })
}

fn message(notification: &Notification, bold: &str, escape: impl Fn(&str) -> String) -> String {
    let mut text = format!("{bold}{}{bold}", escape(&notification.title()));
    let mut left = notification.alerts.len();
    for alert in notification.alerts.iter().take(SPELT_OUT) {
        let mark = match (alert.state, alert.severity.as_str()) {
            (AlertState::Resolved, _) => "✅",
            (_, "critical") => "🔴",
            (_, "info") => "🔵",
            _ => "🟠",
        };
        let mut line = format!("\n{mark} {}", escape(&alert.to_string()));
        if let Some(taken) = &alert.acknowledged {
            let _ = write!(line, " ({})", escape(&format!("taken on by {}", taken.by)));
        }
        if text.len() + line.len() > LONGEST {
            break;
        }
        text += &line;
        left -= 1;
    }
    if left > 0 {
        let _ = write!(text, "\n… and {left} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::DateTime;

    use super::*;
    use crate::alert::{Alert, Severity};

    fn told(summary: &str, alerts: usize) -> Notification {
        let alert = Alert {
            id: "id".to_owned(),
            rule: "slow".to_owned(),
            labels: BTreeMap::from([("route".to_owned(), "/pay".to_owned())]),
            annotations: BTreeMap::from([("summary".to_owned(), summary.to_owned())]),
            severity: Severity::Critical,
            state: AlertState::Firing,
            since: DateTime::UNIX_EPOCH,
            fired: Some(DateTime::UNIX_EPOCH),
            resolved: None,
            value: None,
            acknowledged: None,
        };
        let group = BTreeMap::from([("alertname".to_owned(), "slow".to_owned())]);
        Notification::new(
            "chat".to_owned(),
            DateTime::UNIX_EPOCH,
            DateTime::UNIX_EPOCH,
            group,
            vec![alert; alerts],
            None,
        )
    }

    #[test]
    fn what_an_alert_says_is_no_markup() {
        let text = slack(&told("<!channel> & <http://evil|here>", 1));
        assert_eq!(
            text["text"],
            "*1 firing · slow*\n🔴 critical slow firing route=\"/pay\": &lt;!channel&gt; &amp; &lt;http://evil|here&gt;"
        );
        let text = discord(&told("@everyone **[here](http://evil)**", 1));
        assert_eq!(
            text["content"],
            "**1 firing · slow**\n🔴 critical slow firing route=\"/pay\"\\: \\@everyone \\*\\*\\[here\\]\\(http\\://evil\\)\\*\\*"
        );
        assert_eq!(text["allowed_mentions"]["parse"], json!([]));
    }

    #[test]
    fn a_message_stays_short_and_says_how_many_more_there_are() {
        let text = slack(&told("short", 500))["text"].as_str().unwrap().to_owned();
        assert!(text.ends_with("… and 490 more"), "{text}");
        let text = discord(&told(&"*".repeat(600), 12))["content"].as_str().unwrap().to_owned();
        assert!(text.len() < 2_000 && text.ends_with("… and 11 more"), "{text}");
        let text = discord(&told(&"long".repeat(6_000), 1))["content"].as_str().unwrap().to_owned();
        assert!(text.ends_with("… and 1 more"), "{text}");
    }
}
