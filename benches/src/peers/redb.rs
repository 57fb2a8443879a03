//! redb: records by number, many a transaction, each commit on disk when it returns.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};

use super::log;

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

/// Makes a new database at `path` that has its table.
pub fn create(path: &Path) -> Database {
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(RECORDS).unwrap();
    transaction.commit().unwrap();
    database
}

/// Appends `records` records of [`log::RECORD`] bytes, `batch` a transaction.
pub fn append(database: &Database, records: usize, batch: usize) {
    let mut buffer = Vec::with_capacity(log::RECORD);
    for start in (0..records).step_by(batch) {
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(RECORDS).unwrap();
            for record in start..records.min(start + batch) {
                buffer.clear();
                log::encode(record, &mut buffer);
                table.insert(record as u64, buffer.as_slice()).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
}

/// How many records the database holds.
pub fn len(database: &Database) -> u64 {
    database.begin_read().unwrap().open_table(RECORDS).unwrap().len().unwrap()
}
