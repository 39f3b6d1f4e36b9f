# The beginning of every build: what the functions above are called for before the first phase.

mkdir -p "$HOME"
export shell=/bin/bash
if command -v gcc > /dev/null || command -v clang > /dev/null; then
    _wrapCompilers
    # The names that builds call tools by; another compiler, or another machine, has said its own.
    if [ -z "${CC:-}" ]; then export CC=gcc CXX="${CXX:-g++}"; fi
    export AR="${AR:-ar}" AS="${AS:-as}" LD="${LD:-ld}" NM="${NM:-nm}" OBJCOPY="${OBJCOPY:-objcopy}" OBJDUMP="${OBJDUMP:-objdump}" \
        RANLIB="${RANLIB:-ranlib}" READELF="${READELF:-readelf}" SIZE="${SIZE:-size}" STRINGS="${STRINGS:-strings}" STRIP="${STRIP:-strip}"
fi
: "${prefix=${out:-}}"
_chooseOutputs
_ownLibraries=${out:+$out/lib}
if [[ " $_outputs " == *" lib "* ]]; then _ownLibraries=$lib/lib; fi
export prefix _ownLibraries NIX_CFLAGS_COMPILE="${NIX_CFLAGS_COMPILE:-}" NIX_LDFLAGS="${NIX_LDFLAGS:-}"
_addInputs
_callEnvHooks
_useInputHooks
export PATH
# Attributes that are set but are not for us must not end a build by being unbound.
set +u
