//! Steps on files and directories.

use qb_drivers::bundle::directory_name;
use qb_drivers::config::Schema;
use qb_drivers::{ConfigCheck, FileSpec, RelPath};
use qb_model::ids::Digest;

use crate::exec::cluster_dir;
use crate::progress::StepError;
use crate::stage::Context;
use crate::unpack;

/// Bytes of a rendered file or a schema.
const FILE_BYTES: u64 = 1 << 20;
/// Bytes that a stage may make public: what the log takes.
const PUBLIC_BYTES: u64 = 16 * 1024;

pub(super) fn are_there(context: &Context, paths: &[RelPath]) -> bool {
    paths.iter().all(|path| context.dir.has_dir(path))
}

pub(super) fn make(context: &Context, paths: &[RelPath]) -> Result<(), StepError> {
    let make = |path: &RelPath| context.dir.make_dirs(path).map_err(|e| StepError::disk(path, &e));
    paths.iter().try_for_each(make)
}

pub(super) fn is_unpacked(context: &Context, bundle: &Digest, into: &RelPath) -> Result<bool, StepError> {
    // The directory gets its name when everything in it is on disk.
    let at = into.join(&directory_name(bundle)).map_err(StepError::damaged)?;
    Ok(context.dir.has_dir(&at))
}

pub(super) fn unpack(context: &Context, into: &RelPath) -> Result<(), StepError> {
    let bundle = context.bundle.as_ref().ok_or_else(|| {
        let text =
            format!("the bundle of {} {} is not on this node", context.order.driver, context.order.version);
        StepError::new(text, "it is fetched from a node that has it; if none has, `qb bundle push FILE.qbb`")
    })?;
    unpack::unpack(&context.dir, into, bundle)
        .map_err(|e| StepError::new(e.to_string(), "nothing of it was kept"))
}

pub(super) fn are_written(context: &Context, files: &[FileSpec]) -> Result<bool, StepError> {
    for file in files {
        let error = |e| StepError::disk(&file.path, &e);
        let same = context.dir.read(&file.path, FILE_BYTES).map_err(error)?.as_deref()
            == Some(file.content.as_bytes());
        if !same || context.dir.mode(&file.path).map_err(error)? != Some(file.mode) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn write(context: &Context, files: &[FileSpec]) -> Result<(), StepError> {
    let write = |file: &FileSpec| {
        let written = context.dir.write(&file.path, file.content.as_bytes(), file.mode);
        written.map_err(|e| StepError::disk(&file.path, &e))
    };
    files.iter().try_for_each(write)
}

pub(super) fn agree(context: &Context, bundle: &RelPath, files: &[ConfigCheck]) -> Result<bool, StepError> {
    let read = |at: &RelPath| match context.dir.read(at, FILE_BYTES) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(StepError::damaged(at)),
        Err(error) => Err(StepError::disk(at, &error)),
    };
    for check in files {
        let at = format!("{bundle}/{}", check.schema).parse().map_err(StepError::damaged)?;
        let schema: Schema =
            serde_json::from_slice(&read(&at)?).map_err(|_| StepError::damaged(&check.schema))?;
        schema.check(&read(&check.file)?).map_err(|e| {
            StepError::new(
                format!("{} against {}: {e}", check.file, check.schema),
                "qb bundle list shows what fits",
            )
        })?;
    }
    Ok(true)
}

pub(super) fn is_gone(context: &Context, path: &RelPath) -> Result<bool, StepError> {
    Ok(context.dir.mode(path).map_err(|e| StepError::disk(path, &e))?.is_none())
}

pub(super) fn remove(context: &Context, path: &RelPath) -> Result<(), StepError> {
    context.dir.remove(path).map_err(|e| StepError::disk(path, &e))
}

pub(super) fn is_published(context: &Context, path: &RelPath) -> Result<bool, StepError> {
    Ok(!context.public.is_empty() && context.public == read_public(context, path)?)
}

pub(super) fn publish(context: &mut Context, path: &RelPath) -> Result<(), StepError> {
    context.public = read_public(context, path)?;
    Ok(())
}

fn read_public(context: &Context, path: &RelPath) -> Result<Vec<u8>, StepError> {
    let bytes = context.dir.read(path, PUBLIC_BYTES).map_err(|e| StepError::disk(path, &e))?;
    bytes.ok_or_else(|| StepError::damaged(path))
}

pub(super) fn is_tree_gone(context: &Context) -> bool {
    cluster_dir(&context.order.cluster).is_ok_and(|at| !context.inner.root.has_dir(&at))
}

pub(super) fn remove_tree(context: &Context) -> Result<(), StepError> {
    let at = cluster_dir(&context.order.cluster).map_err(StepError::damaged)?;
    context.inner.root.remove_tree(&at).map_err(|e| StepError::disk(at, &e))
}
