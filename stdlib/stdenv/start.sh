# The beginning of every build: what the functions above are called for before the first phase.

mkdir -p "$HOME"
if command -v gcc > /dev/null || command -v clang > /dev/null; then _wrapCompilers; fi
: "${prefix=${out:-}}"
_chooseOutputs
_ownLibraries=${out:+$out/lib}
if [[ " $_outputs " == *" lib "* ]]; then _ownLibraries=$lib/lib; fi
export prefix _ownLibraries NIX_CFLAGS_COMPILE="${NIX_CFLAGS_COMPILE:-}" NIX_LDFLAGS="${NIX_LDFLAGS:-}"
_addInputs
_useInputHooks
export PATH
# Attributes that are set but are not for us must not end a build by being unbound.
set +u
