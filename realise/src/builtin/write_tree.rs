//! `builtin:write-tree`: files whose text is in the derivation.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Map, Value};

use super::{Attributes, BuiltinBuilder, BuiltinContext, BuiltinError};
use crate::unpack::{RelPath, Tree, UnpackError};

/// The builder.
pub struct WriteTree;

impl BuiltinBuilder for WriteTree {
    fn name(&self) -> &str {
        "write-tree"
    }

    fn build(&self, cx: &BuiltinContext<'_>) -> Result<(), BuiltinError> {
        let Some(Value::Object(files)) = cx.attrs.get("files") else {
            return Err(Attributes::error("files", "expected a set (with `__structuredAttrs = true`)").into());
        };
        let out = cx.output("out")?;
        if let (Some(Value::Object(node)), 1) = (files.get("."), files.len()) {
            let name = RelPath::parse(out.name.as_bytes())
                .map_err(|problem| UnpackError::name(out.name.as_bytes(), problem))?;
            return write_node(cx, &mut Tree::around(out)?, &name, node);
        }
        let mut tree = Tree::create(out).map_err(UnpackError::from)?;
        for (name, node) in files {
            let path = RelPath::parse(name.as_bytes())
                .map_err(|problem| UnpackError::name(name.as_bytes(), problem))?;
            let Value::Object(node) = node else {
                return Err(Attributes::error("files", format!("`{name}` is not a set")).into());
            };
            write_node(cx, &mut tree, &path, node)?;
        }
        Ok(())
    }
}

fn write_node(
    cx: &BuiltinContext<'_>,
    tree: &mut Tree,
    path: &RelPath,
    node: &Map<String, Value>,
) -> Result<(), BuiltinError> {
    let text = |name: &str| node.get(name).and_then(Value::as_str);
    let flag = |name: &str| node.get(name).and_then(Value::as_bool);
    if let Some(contents) = text("text") {
        tree.file(path, flag("executable").unwrap_or(false), &mut contents.as_bytes())?;
    } else if let Some(target) = text("link") {
        tree.symlink(path, target.as_bytes())?;
    } else if let Some(logical) = text("copy") {
        let failed = |error: std::io::Error| BuiltinError::build(format!("`{logical}`: {error}"));
        let mut file = File::open(cx.input(logical)?).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(BuiltinError::build(format!(
                "`{logical}` is not a file, and cannot be copied to `{path}`"
            )));
        }
        let executable = flag("executable").unwrap_or(meta.permissions().mode() & 0o100 != 0);
        tree.file(path, executable, &mut file)?;
    } else if flag("directory") == Some(true) {
        tree.directory(path)?;
    } else {
        let reason = format!("`{path}` has none of `text`, `source`, `link`, `directory`");
        return Err(Attributes::error("files", reason).into());
    }
    Ok(())
}
