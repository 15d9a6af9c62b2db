//! What counts as a refusal, for how long it holds, and who loses an entry when there is no room.

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn service(n: usize) -> Service {
    Service::new(&format!("s{n}.example"), 443).unwrap()
}

fn start() -> Instant {
    Instant::now()
}

fn wrapped(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[test]
fn alerts_about_the_certificate_are_sure_and_others_are_not() {
    use AlertDescription as A;
    for alert in [A::UnknownCA, A::BadCertificate, A::CertificateUnknown, A::UnsupportedCertificate] {
        assert_eq!(Refused::of(&wrapped(Error::AlertReceived(alert))), Some(Refused::Surely), "{alert:?}");
    }
    for alert in [A::CertificateExpired, A::CertificateRevoked, A::AccessDenied] {
        assert_eq!(Refused::of(&wrapped(Error::AlertReceived(alert))), Some(Refused::Surely), "{alert:?}");
    }
    for alert in [A::InternalError, A::HandshakeFailure, A::DecryptError] {
        assert_eq!(Refused::of(&wrapped(Error::AlertReceived(alert))), Some(Refused::Perhaps), "{alert:?}");
    }
    let old = Error::PeerIncompatible(rustls::PeerIncompatible::NoCipherSuitesInCommon);
    assert_eq!(Refused::of(&wrapped(old)), Some(Refused::Surely));
    for kind in HUNG_UP {
        assert_eq!(Refused::of(&kind.into()), Some(Refused::Perhaps), "{kind:?}");
    }
    // Bytes that are no TLS are an attack or a fault, not a client without trust.
    assert_eq!(Refused::of(&wrapped(Error::DecryptError)), None);
    assert_eq!(Refused::of(&io::ErrorKind::TimedOut.into()), None);
}

#[test]
fn an_alert_counts_at_once_for_that_workload_and_service_alone() {
    let (unopened, now) = (Unopened::new(DAY), start());
    assert!(!unopened.holds("run/a", &service(1), now));
    assert!(unopened.note("run/a", &service(1), Refused::Surely, now));
    assert!(!unopened.note("run/a", &service(1), Refused::Surely, now), "told once");
    assert!(unopened.holds("run/a", &service(1), now));
    assert!(!unopened.holds("run/b", &service(1), now));
    assert!(!unopened.holds("run/a", &service(2), now));
    let other_port = Service::new("s1.example", 8443).unwrap();
    assert!(!unopened.holds("run/a", &other_port, now));
}

#[test]
fn a_close_counts_the_second_time_within_a_minute_and_not_after_a_byte() {
    let (unopened, now) = (Unopened::new(DAY), start());
    let note = |after| unopened.note("run/a", &service(1), Refused::Perhaps, now + after);
    assert!(!note(Duration::ZERO) && !unopened.holds("run/a", &service(1), now));
    assert!(!note(TWICE_WITHIN), "too long after the first");
    unopened.trusted("run/a", &service(1));
    assert!(!note(TWICE_WITHIN), "a byte came in between");
    assert!(note(TWICE_WITHIN + Duration::from_secs(1)));
    let at = now + TWICE_WITHIN + Duration::from_secs(1);
    // What passes goes on to, whatever a connection does that was opened before.
    unopened.trusted("run/a", &service(1));
    assert!(unopened.holds("run/a", &service(1), at));
}

#[test]
fn an_entry_ends_in_time_or_when_it_is_forgotten() {
    let (unopened, now) = (Unopened::new(DAY), start());
    unopened.note("run/a", &service(1), Refused::Surely, now);
    unopened.note("run/a", &service(2), Refused::Surely, now);
    let before = now + DAY - Duration::from_millis(1);
    assert!(unopened.holds("run/a", &service(1), before));
    assert!(!unopened.holds("run/a", &service(1), now + DAY));
    // Each refusal begins it anew.
    unopened.note("run/a", &service(1), Refused::Surely, before);
    assert!(unopened.holds("run/a", &service(1), now + DAY));
    unopened.forget("run/a");
    assert!(!unopened.holds("run/a", &service(1), before) && !unopened.holds("run/a", &service(2), before));
    assert_eq!(unopened.table().services, 0);
}

/// Services of `workload` that pass, of `all` that it refused.
fn kept(unopened: &Unopened, workload: &str, all: usize, now: Instant) -> usize {
    (0..all).filter(|n| unopened.holds(workload, &service(*n), now)).count()
}

#[test]
fn a_workload_beyond_its_share_loses_the_oldest_of_its_own() {
    let (unopened, now) = (Unopened::new(DAY), start());
    unopened.note("run/other", &service(0), Refused::Surely, now);
    for n in 0..10 * PER_WORKLOAD_MAX {
        let how = if n % 2 == 0 { Refused::Surely } else { Refused::Perhaps };
        unopened.note("run/a", &service(n), how, now + Duration::from_millis(n as u64));
    }
    let now = now + Duration::from_secs(3);
    assert_eq!(unopened.table().services, PER_WORKLOAD_MAX + 1);
    assert!(unopened.holds("run/other", &service(0), now));
    assert!(unopened.holds("run/a", &service(10 * PER_WORKLOAD_MAX - 2), now));
    assert_eq!(kept(&unopened, "run/a", 10 * PER_WORKLOAD_MAX, now), PER_WORKLOAD_MAX / 2);
}

#[test]
fn who_holds_most_gives_room_and_who_holds_little_keeps_it() {
    let (unopened, now) = (Unopened::new(DAY), start());
    unopened.note("run/small", &service(0), Refused::Surely, now);
    let greedy = SERVICES_MAX / PER_WORKLOAD_MAX + 4;
    for workload in 0..greedy {
        for n in 0..PER_WORKLOAD_MAX {
            unopened.note(&format!("run/{workload}"), &service(n), Refused::Surely, now + Duration::from_secs(1));
        }
    }
    assert_eq!(unopened.table().services, SERVICES_MAX);
    let now = now + Duration::from_secs(2);
    assert!(unopened.holds("run/small", &service(0), now), "the oldest of all, and kept");
    assert!(unopened.note("run/new", &service(0), Refused::Surely, now));
    assert!(unopened.holds("run/new", &service(0), now) && unopened.holds("run/small", &service(0), now));
    assert_eq!(unopened.table().services, SERVICES_MAX);
}

#[test]
fn what_has_expired_gives_room_first() {
    let (unopened, now) = (Unopened::new(DAY), start());
    let workloads = SERVICES_MAX / PER_WORKLOAD_MAX;
    for workload in 0..workloads {
        let at = if workload == 0 { now } else { now + DAY / 2 };
        for n in 0..PER_WORKLOAD_MAX {
            unopened.note(&format!("run/{workload}"), &service(n), Refused::Surely, at);
        }
    }
    let now = now + DAY;
    unopened.note("run/new", &service(0), Refused::Surely, now);
    for workload in 1..workloads {
        assert_eq!(kept(&unopened, &format!("run/{workload}"), PER_WORKLOAD_MAX, now), PER_WORKLOAD_MAX);
    }
    assert_eq!(unopened.table().services, (workloads - 1) * PER_WORKLOAD_MAX + 1);
}
