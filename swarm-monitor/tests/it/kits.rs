use swarm_monitor::testing::{RecordingNotifier, Shape, Synthetic, conformance};
use swarm_monitor::{
    Adwin, AlertEngine, AlertRule, ChangeDetector, Condition, Cusum, FnNotifier, KolmogorovSmirnov,
    MannWhitney, Notifier, PageHinkley, PerformanceMonitor, PopulationStability, RelativeMean, Route, Sample,
    Scored, Streamed, Surprise, Welch,
};

#[test]
fn every_detector_does_what_the_kit_asks() {
    conformance::drift_detector(&RelativeMean::new(0.05));
    conformance::drift_detector(&Welch::default());
    conformance::drift_detector(&MannWhitney::default());
    conformance::drift_detector(&KolmogorovSmirnov::default());
    conformance::drift_detector(&PopulationStability::default());
    conformance::drift_detector(&Streamed(Cusum::new(100.0, 1.0).run_length(1e6)));
    conformance::drift_detector(&Streamed(PageHinkley::new()));
    conformance::drift_detector(&Streamed(Adwin::default()));
    conformance::drift_detector(&Streamed(Surprise::new()));
}

#[tokio::test]
async fn notifiers_do_what_the_kit_asks() {
    let recording = RecordingNotifier::new();
    assert_eq!(conformance::notifier(&recording).await, recording.told());
    assert_eq!(recording.told()[0].id, recording.told()[1].id);
    assert_ne!(recording.told()[0].id, recording.told()[2].id);
    assert_eq!(conformance::notifier(&FnNotifier::new(|_| Ok(()))).await.len(), 5);
}

/// As where a configuration says which.
#[test]
fn detectors_and_notifiers_can_be_chosen_while_the_program_runs() {
    let detector = |name: &str| -> Box<dyn ChangeDetector> {
        if name == "adwin" { Box::new(Adwin::default()) } else { Box::new(Cusum::standard()) }
    };
    let baseline = Sample::of(&Synthetic::new(1).values(400));
    let mut scored = Scored::new(detector("cusum"), &baseline);
    assert!((0..100).any(|_| scored.update(9.0)));
    let saved = scored.save();
    let mut again = Scored::new(detector("cusum"), &baseline);
    again.restore(&saved).unwrap();
    assert_eq!((again.name(), again.save()), ("CUSUM", saved));
    let notifier: Box<dyn Notifier> = Box::new(RecordingNotifier::new());
    AlertEngine::builder(&PerformanceMonitor::new())
        .rule(AlertRule::new("moved", Condition::of("x").changes(move || detector("adwin"))))
        .route(Route::new("ops", notifier))
        .build()
        .unwrap();
}

#[test]
fn a_synthetic_series_is_as_it_was_asked_to_be() {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let deviation = |values: &[f64]| {
        let mean = mean(values);
        (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    for (shape, expected, spread) in [
        (Shape::Normal, 10.0, 2.0),
        (Shape::Exponential, 12.0, 2.0),
        (Shape::HeavyTailed, 10.0 + 2.0 * 0.5_f64.exp(), 4.32),
        (Shape::Counts, 10.0, 10.0_f64.sqrt()),
    ] {
        let series = Synthetic::new(7).shape(shape).level(10.0).spread(2.0);
        let values = series.values(40_000);
        assert_eq!(values, series.values(40_000));
        assert!((mean(&values) - expected).abs() < 0.1, "{shape:?} {}", mean(&values));
        assert!((deviation(&values) / spread - 1.0).abs() < 0.1, "{shape:?} {}", deviation(&values));
    }
    let changed =
        Synthetic::new(7).scale(20_000, 3.0).shift(10_000, 5.0).slope(30_000, 0.01).season(100, 1.0);
    assert_eq!(changed.changes(), [10_000, 20_000, 30_000]);
    let values = changed.values(40_000);
    assert!(mean(&values[..10_000]).abs() < 0.1 && (mean(&values[10_000..20_000]) - 5.0).abs() < 0.1);
    assert!(deviation(&values[20_000..30_000]) > 2.0 * deviation(&values[10_000..20_000]));
    assert!((mean(&values[39_900..]) - 105.0).abs() < 2.0);
}
