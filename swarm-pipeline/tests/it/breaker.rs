//! What a circuit breaker learns of the attempts it lets through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use swarm_pipeline::*;

/// What a service does when it is called.
#[derive(Clone, Default)]
struct Service {
    calls: Arc<AtomicU32>,
    works: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
}

impl Service {
    async fn call(self) -> Result<(), StepError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.works.load(Ordering::SeqCst) { Ok(()) } else { Err(StepError::new("no answer")) }
    }

    fn calls(&self) -> u32 {
        self.calls.swap(0, Ordering::SeqCst)
    }
}

const COOL_DOWN: Duration = Duration::from_secs(60);

/// A rest, and then a step that calls the service, five times at most and a second apart.
fn calling(service: &Service, breaker: &CircuitBreaker, rest: Duration) -> Pipeline {
    let service = service.clone();
    let mut p = Pipeline::builder("calling");
    p.cancel_grace(Duration::ZERO);
    let rested = p.step("rest").sleep(rest);
    p.step::<()>("call")
        .input(&rested)
        .retry(Retry::fixed(5, Duration::from_secs(1)))
        .circuit_breaker(breaker)
        .run(move |_cx, _| service.clone().call());
    p.build().unwrap()
}

fn kinds(report: &RunReport) -> Vec<StepErrorKind> {
    let attempts = report.step("call").unwrap().attempts;
    attempts.iter().filter_map(|attempt| attempt.error.as_ref()).map(StepError::kind).collect()
}

#[tokio::test(start_paused = true)]
async fn a_breaker_spares_a_service_that_fails_until_a_probe_after_the_cool_down_works() {
    use StepErrorKind::{CircuitOpen, Failed};
    for engine in [LocalEngine::in_memory(), LocalEngine::with_store(MemoryStore::default())] {
        let (service, breaker) = (Service::default(), CircuitBreaker::new("service", 3, COOL_DOWN));
        let at_once = calling(&service, &breaker, Duration::ZERO);
        let rested = calling(&service, &breaker, 2 * COOL_DOWN);
        let long_rested = calling(&service, &breaker, 4 * COOL_DOWN);
        let report = engine.run(&at_once, "opens", ()).await.unwrap();
        assert_eq!(kinds(&report), [Failed, Failed, Failed, CircuitOpen, CircuitOpen]);
        assert_eq!(service.calls(), 3, "an open breaker lets nobody through");
        let report = engine.run(&rested, "probes", ()).await.unwrap();
        assert_eq!(kinds(&report), [Failed, CircuitOpen, CircuitOpen, CircuitOpen, CircuitOpen]);
        assert_eq!(service.calls(), 1, "the probe failed");
        service.works.store(true, Ordering::SeqCst);
        assert!(engine.run(&long_rested, "closes", ()).await.unwrap().is_success());
        assert_eq!((breaker.is_open(), service.calls()), (false, 1));
        // A success starts the count anew.
        service.works.store(false, Ordering::SeqCst);
        let _ = engine.run(&at_once, "again", ()).await.unwrap();
        assert_eq!(service.calls(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_was_cancelled_leaves_room_for_another() {
    let (service, breaker) = (Service::default(), CircuitBreaker::new("service", 1, COOL_DOWN));
    let engine = LocalEngine::with_store(MemoryStore::default());
    let _ = engine.run(&calling(&service, &breaker, Duration::ZERO), "opens", ()).await.unwrap();
    assert_eq!(service.calls(), 1);
    service.hangs.store(true, Ordering::SeqCst);
    let rested = calling(&service, &breaker, 2 * COOL_DOWN);
    let cancel = async {
        tokio::time::sleep(3 * COOL_DOWN).await;
        engine.cancel("hangs").await
    };
    let (report, cancelled) = tokio::join!(engine.run(&rested, "hangs", ()), cancel);
    cancelled.unwrap();
    assert_eq!(report.unwrap().status(), RunStatus::Cancelled);
    assert_eq!((breaker.is_open(), service.calls()), (true, 1), "nothing was learnt of the service");
    service.hangs.store(false, Ordering::SeqCst);
    service.works.store(true, Ordering::SeqCst);
    let report = engine.run(&rested, "probes", ()).await.unwrap();
    assert_eq!(kinds(&report), []);
    assert!(report.is_success() && !breaker.is_open());
}
