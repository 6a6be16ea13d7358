//! Faults on demand: which request fails, and how.

use super::record::Role;
use serde::{Deserialize, Serialize};

/// One order to fail. Orders are tried in the order given; the first that fits a request is used, and used up by one.
/// The builds that the sandbox's own warehouse asks for after a publish count as requests to the build service.
///
/// As JSON for `POST /control/faults`:
/// `{"role": "build", "package": "child", "times": 2, "kind": {"status": {"status": 503, "retry_after": "1"}}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whose requests.
    pub role: Role,
    /// Only requests for this package.
    #[serde(default)]
    pub package: Option<String>,
    /// For so many requests; None: always.
    #[serde(default)]
    pub times: Option<u32>,
    /// Whether the work is done all the same (published, queued and noticed) and only its answer is bad. A fault without it
    /// leaves no trace but the record. `Slow` always does the work; `ErrorEvent` and `FinalError` never lead to a notice unless this is set.
    #[serde(default)]
    pub work_done: bool,
    /// How.
    pub kind: FaultKind,
}

/// How a request fails. The request's body is always read to its end first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// This status, with `Retry-After` and a body (plain text) if given.
    Status {
        /// The status.
        status: u16,
        /// The header's value: seconds or an HTTP date.
        #[serde(default)]
        retry_after: Option<String>,
        /// The body.
        #[serde(default)]
        body: Option<String>,
    },
    /// Never answered; the connection stays open. A notice is never sent.
    Hang,
    /// The connection is reset (RST) without an answer.
    Reset,
    /// Half of the answer (lines, tarball, JSON), then the connection is closed.
    Cut,
    /// So many milliseconds before each line or 64 KB of the answer, and before any other answer; a notice is sent so much later.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// Build service: a line with `event: "error"`, then the final failure line. Others: status 500 with the message.
    ErrorEvent {
        /// The message.
        message: String,
    },
    /// Build service: the final failure line alone (`type: "error"`, no `event`) after the start. Others: status 500.
    FinalError {
        /// The message.
        message: String,
    },
    /// 200 with lines that are not JSON.
    NoParsableLine,
    /// 200 with an empty body.
    EmptyStream,
    /// Tarball: 302 to another path that serves it. Others: 302 to the same path below `/moved`, which is not there.
    Redirect,
    /// A notice is sent twice.
    Twice,
}

impl Fault {
    /// A fault of one request of that role; change the fields for more.
    pub fn once(role: Role, kind: FaultKind) -> Self {
        Self {
            role,
            package: None,
            times: Some(1),
            work_done: false,
            kind,
        }
    }

    /// A fault of every request of that role until the faults are cleared.
    pub fn always(role: Role, kind: FaultKind) -> Self {
        Self {
            times: None,
            ..Self::once(role, kind)
        }
    }

    /// Only for this package.
    #[must_use]
    pub fn of(mut self, package: &str) -> Self {
        self.package = Some(package.to_owned());
        self
    }

    /// For this many requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// The work is done all the same.
    #[must_use]
    pub fn work_done(mut self) -> Self {
        self.work_done = true;
        self
    }
}

impl FaultKind {
    /// A bare status.
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            retry_after: None,
            body: None,
        }
    }

    /// Its name in a record's outcome.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Status { status, .. } => format!("fault: status {status}"),
            Self::Hang => "fault: hang".into(),
            Self::Reset => "fault: reset".into(),
            Self::Cut => "fault: cut".into(),
            Self::Slow { ms } => format!("fault: slow {ms}"),
            Self::ErrorEvent { .. } => "fault: error event".into(),
            Self::FinalError { .. } => "fault: final error".into(),
            Self::NoParsableLine => "fault: no parsable line".into(),
            Self::EmptyStream => "fault: empty stream".into(),
            Self::Redirect => "fault: redirect".into(),
            Self::Twice => "fault: twice".into(),
        }
    }
}

/// The fault for this request, if one was ordered; uses it up by one.
pub(super) fn take(faults: &mut Vec<Fault>, role: Role, package: Option<&str>) -> Option<Fault> {
    let at = faults
        .iter()
        .position(|f| f.role == role && (f.package.is_none() || f.package.as_deref() == package))?;
    let fault = faults[at].clone();
    match &mut faults[at].times {
        Some(0 | 1) => drop(faults.remove(at)),
        Some(times) => *times -= 1,
        None => {}
    }
    (fault.times != Some(0)).then_some(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fitting_order_is_used_up() {
        let mut faults = vec![
            Fault::once(Role::Build, FaultKind::Hang).of("a").times(2),
            Fault::always(Role::Build, FaultKind::Reset),
        ];
        let mut kind = |role, package| take(&mut faults, role, package).map(|f| f.kind);
        assert_eq!(kind(Role::Tarball, Some("a")), None);
        assert_eq!(kind(Role::Build, Some("b")), Some(FaultKind::Reset));
        assert_eq!(kind(Role::Build, Some("a")), Some(FaultKind::Hang));
        assert_eq!(kind(Role::Build, Some("a")), Some(FaultKind::Hang));
        assert_eq!(kind(Role::Build, Some("a")), Some(FaultKind::Reset));
        assert_eq!(kind(Role::Build, None), Some(FaultKind::Reset));
    }

    #[test]
    fn faults_are_written_as_json() {
        let text =
            r#"{"role":"dist-tag","times":3,"kind":{"status":{"status":503,"retry_after":"1"}}}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        assert_eq!(
            (fault.role, fault.times, fault.work_done),
            (Role::DistTag, Some(3), false)
        );
        let plain: Fault =
            serde_json::from_str(r#"{"role":"build","kind":"empty-stream"}"#).unwrap();
        assert_eq!(plain, Fault::always(Role::Build, FaultKind::EmptyStream));
        assert!(serde_json::from_str::<Fault>(r#"{"role":"build","kind":"nope"}"#).is_err());
    }
}
