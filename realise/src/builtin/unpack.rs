//! `builtin:unpack`: a tree from an archive that is in the store.

use std::fs::File;

use super::{BuiltinBuilder, BuiltinContext, BuiltinError};
use crate::unpack::{Format, Limits, Options, RelPath, UnpackError, unpack};

/// The builder.
pub struct Unpack;

impl BuiltinBuilder for Unpack {
    fn name(&self) -> &str {
        "unpack"
    }

    fn build(&self, cx: &BuiltinContext<'_>) -> Result<(), BuiltinError> {
        let src = cx.attrs.required("src")?;
        let archive =
            File::open(cx.input(src)?).map_err(|error| BuiltinError::build(format!("`{src}`: {error}")))?;
        if archive.metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(BuiltinError::build(format!("`{src}` is a directory, not an archive")));
        }
        let options = unpack_options(cx, false)?;
        let done = unpack(archive, &options, cx.output("out")?)
            .map_err(|error| BuiltinError::build(format!("`{src}`: {error}")))?;
        cx.events.log(&format!("{} entries, {} bytes", done.entries, done.size_bytes));
        Ok(())
    }
}

/// Reads the attributes that say how to unpack.
pub(super) fn unpack_options(cx: &BuiltinContext<'_>, strip_root: bool) -> Result<Options, BuiltinError> {
    let attrs = cx.attrs;
    let subdir = attrs.text("subdir")?.unwrap_or_default();
    Ok(Options {
        format: Format::parse(attrs.text("format")?.unwrap_or_default())?,
        strip_root: attrs.flag("stripRoot", strip_root)?,
        subdir: RelPath::parse(subdir.as_bytes())
            .map_err(|problem| UnpackError::name(subdir.as_bytes(), problem))?,
        limits: attrs.number("maxSize")?.map(|max_bytes| Limits { max_bytes, max_entries: Limits::ENTRIES }),
        cancel: cx.cancel.clone(),
    })
}
