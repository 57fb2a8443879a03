//! Every metric as it stands in a snapshot.

use std::io::{self, Read, Write};
use std::sync::{Arc, PoisonError};

use crate::metric::{Description, Direction, MetricKind};
use crate::series::Series;
use crate::sketch::mapping::Mapping;
use crate::snapshot::wire::{NoBlock, Saved, load_len, read_block, save_str, write_block};
use crate::table::{LONGEST, Metric, Table, cut, lock};

/// What was restored, and what there was no room for.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) series: usize,
    pub(crate) left_out: usize,
}

impl Table {
    /// Writes a block for each metric, followed by one for each of its series.
    pub(crate) fn save(&self, out: &mut impl Write) -> io::Result<()> {
        let now = self.settings.time.now();
        let mut block = Vec::new();
        let metrics = self.all();
        (metrics.len() as u64).save(&mut block);
        let described = lock(&self.described).clone();
        (described.len() as u64).save(&mut block);
        for (name, description) in &described {
            save_str(name, &mut block);
            description.save(&mut block);
        }
        write_block(out, &block)?;
        for metric in metrics {
            let overflow = metric.overflow.get();
            let mut series: Vec<_> = metric.read().iter().cloned().collect();
            // Those without a place when there is less room are the ones that were idle. Each is asked once, as others record.
            series.sort_by_cached_key(|series| std::cmp::Reverse(series.active()));
            block.clear();
            metric.save(series.len() + usize::from(overflow.is_some()), &mut block);
            write_block(out, &block)?;
            for series in overflow.into_iter().chain(&series) {
                block.clear();
                u8::from(overflow.is_some_and(|overflow| Arc::ptr_eq(overflow, series))).save(&mut block);
                series.save(now, &mut block);
                write_block(out, &block)?;
            }
        }
        Ok(())
    }

    /// Reads what [`save`](Table::save) wrote into a table that has nothing. The bins of sketches were those of `mapping`.
    pub(crate) fn load(&self, mapping: Mapping, input: &mut impl Read) -> Result<Loaded, NoBlock> {
        let mut loaded = Loaded::default();
        let mut block = Vec::new();
        read_block(input, &mut block)?;
        let metrics = self.load_head(&mut &block[..]).ok_or(NoBlock::Damaged)?;
        for _ in 0..metrics {
            read_block(input, &mut block)?;
            let (metric, series) = self.load_metric(&mut &block[..]).ok_or(NoBlock::Damaged)?;
            for _ in 0..series {
                read_block(input, &mut block)?;
                let Some(metric) = &metric else {
                    loaded.left_out += 1;
                    continue;
                };
                let kept = self.load_series(metric, mapping, &mut &block[..]).ok_or(NoBlock::Damaged)?;
                loaded.series += usize::from(kept);
                loaded.left_out += usize::from(!kept);
            }
        }
        Ok(loaded)
    }

    fn load_head(&self, input: &mut &[u8]) -> Option<u64> {
        let metrics = u64::load(input)?;
        for _ in 0..load_len(input)? {
            let name = String::load(input)?;
            self.describe(&name, Description::load(input)?);
        }
        Some(metrics)
    }

    fn load_metric(&self, input: &mut &[u8]) -> Option<(Option<Arc<Metric>>, u64)> {
        let name = String::load(input).filter(|name| name.len() <= LONGEST)?;
        let kind = match u8::load(input)? {
            0 => MetricKind::Counter,
            1 => MetricKind::Gauge,
            2 => MetricKind::Histogram,
            3 => MetricKind::Event,
            _ => return None,
        };
        let description = Description::load(input)?;
        let counts = [u64::load(input)?, u64::load(input)?, u64::load(input)?];
        let series = u64::load(input)?;
        let metric = self.metric(&name, kind).filter(|metric| metric.about.kind == kind);
        if let Some(metric) = &metric {
            let about = &metric.about;
            about.describe(description);
            for (counter, count) in [&about.folded, &about.refused, &about.mismatched].into_iter().zip(counts)
            {
                counter.restore(count);
            }
        }
        Some((metric, series))
    }

    /// Answers `false` where there is no room for it.
    fn load_series(&self, metric: &Metric, mapping: Mapping, input: &mut &[u8]) -> Option<bool> {
        let overflow = u8::load(input)? == 1;
        let given: Vec<(String, String)> = Vec::load(input)?;
        let tags: Vec<(&str, &str)> = given.iter().map(|(name, value)| (cut(name), cut(value))).collect();
        let hash = if overflow { 0 } else { self.hash(&tags) };
        let owned = self.own(&tags);
        let series = Series::load(metric.about.clone(), owned, hash, &self.settings, mapping, input)?;
        if overflow {
            return Some(metric.overflow.set(Arc::new(series)).is_ok());
        }
        let mut all = metric.series.write().unwrap_or_else(PoisonError::into_inner);
        let room = all.len() < self.limits.series;
        if room {
            all.insert_unique(hash, Arc::new(series), |series| series.hash);
        }
        Some(room)
    }
}

impl Metric {
    fn save(&self, series: usize, out: &mut Vec<u8>) {
        let about = &self.about;
        save_str(&about.name, out);
        out.push(match about.kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
            MetricKind::Histogram => 2,
            MetricKind::Event => 3,
        });
        about.description().save(out);
        for count in [&about.folded, &about.refused, &about.mismatched] {
            count.ever().save(out);
        }
        (series as u64).save(out);
    }
}

impl Saved for Description {
    fn save(&self, out: &mut Vec<u8>) {
        self.help.save(out);
        self.unit.save(out);
        out.push(match self.direction {
            Direction::Both => 0,
            Direction::HigherIsWorse => 1,
            Direction::LowerIsWorse => 2,
        });
        self.bounds.save(out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        let description = Description::new(String::load(input)?).unit(String::load(input)?);
        let direction = match u8::load(input)? {
            0 => Direction::Both,
            1 => Direction::HigherIsWorse,
            2 => Direction::LowerIsWorse,
            _ => return None,
        };
        Some(description.direction(direction).bounds(Vec::<f64>::load(input)?))
    }
}
