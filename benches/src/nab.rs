//! Numenta's anomaly benchmark: labelled series, and how detectors are scored on them.
//!
//! Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms", ICMLA 2015. The scores are those of the benchmark's own program,
//! <https://github.com/numenta/NAB>, so that its published figures can be compared with. Its series are not here: the bench `nab` reads them where
//! they are, and makes others of its own.

pub mod corpus;
pub mod made;
pub mod score;
