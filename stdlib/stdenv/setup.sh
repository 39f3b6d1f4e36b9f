# The builder's functions: sourced by every build of `stdenv`.
#
# Phases are functions that an attribute of the same name replaces; hooks are functions or attributes (`preBuild`) and
# arrays of names (`preBuildHooks`).

set -eu -o pipefail
# With `__structuredAttrs` attributes are variables of the shell, lists are arrays, and what `env` has is exported.
if [[ "$(declare -p outputs 2> /dev/null)" = "declare -A"* ]]; then
    # A set has no order: `out` comes first, then what else is usual.
    _outputs=
    for _name in out bin dev lib "${!outputs[@]}"; do
        if [[ -n "${outputs[$_name]:-}" && " $_outputs " != *" $_name "* ]]; then _outputs+="${_outputs:+ }$_name"; fi
    done
    for _name in $_outputs; do export "$_name=${outputs[$_name]}"; done
    if [[ "$(declare -p env 2> /dev/null)" = "declare -A"* ]]; then
        for _name in "${!env[@]}"; do export "$_name=${env[$_name]}"; done
    fi
else
    _outputs=${outputs:=out}
fi
getAllOutputNames() { echo "$_outputs"; }
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LANG=C.UTF-8 LC_ALL=C.UTF-8 TZ=UTC
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-315532800}"
export NIX_BUILD_CORES="${NIX_BUILD_CORES:-1}"
if [ "$NIX_BUILD_CORES" -le 0 ]; then NIX_BUILD_CORES=$(nproc); fi
export HOME="${NIX_BUILD_TOP:-/build}/home" CONFIG_SHELL=/bin/bash SHELL=/bin/bash
export TMPDIR="${TMPDIR:-${NIX_BUILD_TOP:-/build}}"
umask 022
shopt -s nullglob

# --- Hooks -------------------------------------------------------------------------------------------------------------

_callImplicitHook() {
    local default=$1 hook=$2
    if declare -F "$hook" > /dev/null; then "$hook"
    elif [ -n "${!hook:-}" ]; then eval "${!hook}"
    else return "$default"; fi
}

# Runs the hooks of a name: the function or attribute, then what was added to the array.
runHook() {
    local name=$1 hook array="$1Hooks[@]"
    shift
    _callImplicitHook 0 "$name"
    if declare -p "${name}Hooks" > /dev/null 2>&1; then
        for hook in "${!array}"; do
            if declare -F "$hook" > /dev/null; then "$hook" "$@"; else eval "$hook"; fi
        done
    fi
}

echoCmd() { printf '%s:' "$1"; shift; printf ' %q' "$@"; echo; }
stopNest() { :; }
header() { echo "$1"; }

# --- Inputs --------------------------------------------------------------------------------------------------------------

addToSearchPathWithCustomDelimiter() {
    local delimiter=$1 name=$2 dir=$3
    if [[ -d "$dir" && "$delimiter${!name:-}$delimiter" != *"$delimiter$dir$delimiter"* ]]; then
        export "$name=${!name:-}${!name:+$delimiter}$dir"
    fi
}
addToSearchPath() { addToSearchPathWithCustomDelimiter : "$@"; }

declare -A _seenInputs=()
_addInput() {
    local input=$1 file next
    if [ -n "${_seenInputs[$input]:-}" ]; then return; fi
    _seenInputs[$input]=1
    if [ -f "$input" ]; then source "$input"; return; fi
    if [ -d "$input/bin" ]; then PATH="$input/bin:$PATH"; fi
    addToSearchPath CPATH "$input/include"
    addToSearchPath LIBRARY_PATH "$input/lib"
    addToSearchPath PKG_CONFIG_PATH "$input/lib/pkgconfig"
    addToSearchPath PKG_CONFIG_PATH "$input/share/pkgconfig"
    addToSearchPath ACLOCAL_PATH "$input/share/aclocal"
    addToSearchPath CMAKE_PREFIX_PATH "$input"
    addToSearchPath PYTHONPATH "$input/lib/python3/dist-packages"
    if [ -f "$input/nix-support/setup-hook" ]; then source "$input/nix-support/setup-hook"; fi
    for file in propagated-build-inputs propagated-native-build-inputs; do
        if [ -f "$input/nix-support/$file" ]; then
            for next in $(< "$input/nix-support/$file"); do _addInput "$next"; done
        fi
    done
}

_addInputs() {
    local name array input
    for name in nativeBuildInputs buildInputs propagatedBuildInputs propagatedNativeBuildInputs nativeCheckInputs checkInputs \
        nativeInstallCheckInputs installCheckInputs depsBuildBuild; do
        array="$name[@]"
        for input in ${!array:-}; do _addInput "$input"; done
    done
}

# addEnvHooks OFFSET FUNCTION…: functions that setup hooks add are called for each input, when all are known.
_envHooks=()
addEnvHooks() { shift; _envHooks+=("$@"); }
_callEnvHooks() {
    local hook input
    for hook in "${_envHooks[@]}"; do
        for input in "${!_seenInputs[@]}"; do if [ -d "$input" ]; then "$hook" "$input"; fi; done
    done
}

# --- Text ----------------------------------------------------------------------------------------------------------------

# substitute IN OUT [--replace OLD NEW | --replace-fail OLD NEW | --subst-var NAME | --subst-var-by NAME TEXT]…
substitute() {
    local input=$1 output=$2 content old new must
    shift 2
    if [ ! -f "$input" ]; then echo "substitute(): ERROR: file '$input' does not exist" >&2; return 1; fi
    content=$(cat "$input"; printf x)
    content=${content%x}
    while [ $# -gt 0 ]; do
        must=
        case "$1" in
            --replace|--replace-warn|--replace-quiet) old=$2 new=$3; shift 3 ;;
            --replace-fail) old=$2 new=$3 must=1; shift 3 ;;
            --subst-var) old="@$2@" new=${!2}; shift 2 ;;
            --subst-var-by) old="@$2@" new=$3; shift 3 ;;
            *) echo "substitute(): ERROR: invalid argument '$1'" >&2; return 1 ;;
        esac
        if [ -n "$must" ] && [[ "$content" != *"$old"* ]]; then
            echo "substitute(): ERROR: pattern $old does not match in '$input'" >&2
            return 1
        fi
        content=${content//"$old"/"$new"}
    done
    if [ -e "$output" ]; then chmod +w "$output"; fi
    printf %s "$content" > "$output"
}

substituteInPlace() {
    local -a files=()
    local file
    while [ $# -gt 0 ] && [[ "$1" != --* ]]; do files+=("$1"); shift; done
    for file in "${files[@]}"; do substitute "$file" "$file" "$@"; done
}

_allSubstitutions() {
    local name
    for name in $(compgen -e | grep -E '^[a-z][a-zA-Z0-9_]*$'); do printf '%s\0' --subst-var "$name"; done
}
substituteAll() {
    local -a substitutions=()
    mapfile -d '' substitutions < <(_allSubstitutions)
    substitute "$1" "$2" "${substitutions[@]}"
}
substituteAllInPlace() { substituteAll "$1" "$1"; }

# Debian's interpreters are where scripts look for them; one of another derivation is named by its path in the store.
# What to look for (`--build`, `--host`) makes no difference.
patchShebangs() {
    local file line program
    local -a words
    while [[ "${1:-}" = --* ]]; do shift; done
    while IFS= read -r -d '' file; do
        IFS= read -r line < "$file" 2> /dev/null || continue
        if [[ "$line" != '#!'* ]]; then continue; fi
        read -r -a words <<< "${line:2}"
        if [[ "${words[0]##*/}" = env ]]; then words=("${words[@]:1}"); fi
        if [[ "${words[0]:-}" = -S ]]; then words=("${words[@]:1}"); fi
        program=$(command -v "${words[0]##*/}") || continue
        if [[ "$program" != /nix/store/* || "${words[0]}" = /nix/store/* ]]; then continue; fi
        words[0]=$program
        sed -i "1s|.*|#!${words[*]}|" "$file"
    done < <(find "$@" -type f -perm -0100 -print0 2> /dev/null)
}

_isArray() { [[ "$(declare -p "$1" 2> /dev/null)" = "declare -a"* ]]; }

# Words of attributes (split at blanks) and of arrays: `concatTo flags makeFlags checkTarget=check`, the last with what is
# taken if there is none.
concatTo() {
    local -n _target=$1
    local name array default
    local -a _words
    shift
    for name in "$@"; do
        default= _words=()
        if [[ "$name" = *=* ]]; then default=${name#*=} name=${name%%=*}; fi
        array="$name[@]"
        if _isArray "$name"; then _words=("${!array}")
        elif [ -n "${!name:-}" ]; then read -r -d '' -a _words <<< "${!name}" || true; fi
        if [ "${#_words[@]}" = 0 ] && [ -n "$default" ]; then read -r -d '' -a _words <<< "$default" || true; fi
        _target+=("${_words[@]}")
    done
}
# concatStringsSep SEPARATOR NAME: the words of an attribute or array as one.
concatStringsSep() {
    local separator=$1
    local -a list=()
    concatTo list "$2"
    if [ "${#list[@]}" = 0 ]; then return; fi
    printf %s "${list[0]}"
    if [ "${#list[@]}" -gt 1 ]; then printf "${separator//%/%%}%s" "${list[@]:1}"; fi
}
printLines() { if [ $# -gt 0 ]; then printf '%s\n' "$@"; fi; }
printWords() { if [ $# -gt 0 ]; then printf '%s ' "$@"; fi; }

appendToVar() {
    local name=$1
    shift
    if _isArray "$name" || [[ -n "${NIX_ATTRS_SH_FILE:-}" && -z "${!name:-}" ]]; then
        local -n _variable=$name
        _variable+=("$@")
    else
        export "$name=${!name:-}${!name:+ }$*"
    fi
}
prependToVar() {
    local name=$1
    shift
    if _isArray "$name"; then
        local -n _variable=$name
        _variable=("$@" "${_variable[@]}")
    else
        export "$name=$*${!name:+ }${!name:-}"
    fi
}

# --- Phases --------------------------------------------------------------------------------------------------------------

_defaultUnpack() {
    local file=$1
    if [ -d "$file" ]; then
        cp -r --no-preserve=mode,timestamps -- "$file" "$(stripHash "$file")"
        # Copying took the modes away; programs of the source must stay programs.
        (cd "$file" && find . -type f -perm -0100 -print0) | (cd "$(stripHash "$file")" && xargs -0 -r chmod +x)
        return
    fi
    case "$file" in
        *.tar.xz|*.tar.lzma|*.txz|*.tar|*.tar.*|*.tgz|*.tbz2|*.tbz) tar xf "$file" --no-same-owner --mode=+w --warning=no-timestamp ;;
        *.zip) unzip -qq "$file" ;;
        *) case "$(file -bL "$file")" in
               *gzip*|*XZ*|*bzip2*|*Zstandard*|*tar\ archive*) tar xf "$file" --no-same-owner --mode=+w ;;
               *) return 1 ;;
           esac ;;
    esac
}
stripHash() { local name=${1##*/}; if [[ "$name" =~ ^[a-z0-9]{32}- ]]; then name=${name:33}; fi; echo "$name"; }

unpackFile() {
    echo "unpacking source archive $1"
    if ! runOneHook unpackCmd "$1" && ! _defaultUnpack "$1"; then echo "do not know how to unpack source archive $1" >&2; exit 1; fi
}
runOneHook() {
    local name=$1
    shift
    curSrc=${1:-}
    if declare -F "$name" > /dev/null; then "$name" "$@"; elif [ -n "${!name:-}" ]; then eval "${!name}"; else return 1; fi
}

unpackPhase() {
    runHook preUnpack
    local -a sources before
    local dir entry
    if [ -n "${srcs:-}" ]; then sources=(); concatTo sources srcs
    elif [ -n "${src:-}" ]; then sources=("$src")
    else echo "variable \$src or \$srcs should point to the source" >&2; exit 1; fi
    before=(*/)
    for entry in "${sources[@]}"; do unpackFile "$entry"; done
    if [ -n "${setSourceRoot:-}" ] || declare -F setSourceRoot > /dev/null; then runOneHook setSourceRoot
    elif [ -z "${sourceRoot:-}" ]; then
        sourceRoot=
        for dir in */; do
            if [[ " ${before[*]} " != *" $dir "* ]]; then
                if [ -n "$sourceRoot" ]; then echo "unpacker produced multiple directories" >&2; exit 1; fi
                sourceRoot=${dir%/}
            fi
        done
    fi
    if [ -z "$sourceRoot" ]; then echo "unpacker appears to have produced no directories" >&2; exit 1; fi
    echo "source root is $sourceRoot"
    if [ -z "${dontMakeSourcesWritable:-}" ]; then chmod -R u+w -- "$sourceRoot"; fi
    runHook postUnpack
}

patchPhase() {
    runHook prePatch
    local -a list=() flags=(-p1)
    local file
    concatTo list patches
    if [ -n "${patchFlags:-}" ]; then flags=(); concatTo flags patchFlags; fi
    for file in "${list[@]}"; do
        echo "applying patch $file"
        case "$file" in
            *.gz) gzip -dc "$file" ;;
            *.xz) xz -dc "$file" ;;
            *.bz2) bzip2 -dc "$file" ;;
            *) cat "$file" ;;
        esac | patch "${flags[@]}"
    done
    runHook postPatch
}

configurePhase() {
    runHook preConfigure
    local -a flags=()
    : "${configureScript:=}"
    if [ -z "$configureScript" ] && [ -x ./configure ]; then configureScript=./configure; fi
    if [ -n "$configureScript" ]; then
        if [ -z "${dontAddPrefix:-}" ]; then flags+=("${prefixKey:---prefix=}$prefix"); fi
        if [ -z "${dontDisableStatic:-}" ] && [ -n "${disableStatic:-}" ]; then flags+=(--disable-static); fi
        local flag
        concatTo flags configurePlatformFlags
        while read -r flag; do flags+=("$flag"); done < <(_outputFlags)
        concatTo flags configureFlags configureFlagsArray
        echoCmd 'configure flags' "${flags[@]}"
        # The script may be a command with words of its own.
        # shellcheck disable=SC2086
        $configureScript "${flags[@]}"
    else
        echo "no configure script, doing nothing"
    fi
    runHook postConfigure
}

_parallel() { if [ -n "${enableParallelBuilding:-}" ]; then echo "-j$NIX_BUILD_CORES"; fi; }
_hasMakefile() { [ -n "${makefile:-}" ] || [ -e Makefile ] || [ -e makefile ] || [ -e GNUmakefile ]; }

buildPhase() {
    runHook preBuild
    if [ -z "${makeFlags:-}" ] && ! _hasMakefile; then
        echo "no Makefile or custom buildPhase, doing nothing"
    else
        local -a flags=()
        concatTo flags makeFlags makeFlagsArray buildFlags buildFlagsArray
        echoCmd 'build flags' "${flags[@]}"
        make ${makefile:+-f $makefile} $(_parallel) SHELL=/bin/bash "${flags[@]}"
    fi
    runHook postBuild
}

checkPhase() {
    runHook preCheck
    if ! _hasMakefile; then
        echo "no Makefile or custom checkPhase, doing nothing"
    else
        local target=${checkTarget:-} name
        if [ -z "$target" ]; then
            for name in check test; do
                if make -n ${makefile:+-f $makefile} ${makeFlags[*]:-} "$name" > /dev/null 2>&1; then target=$name; break; fi
            done
        fi
        if [ -z "$target" ]; then echo "no check/test target, doing nothing"
        else
            local -a flags=()
            concatTo flags makeFlags makeFlagsArray checkFlags checkFlagsArray
            if [ -z "${checkFlags:-}" ]; then flags+=(VERBOSE=y); fi
            # Several targets are allowed.
            # shellcheck disable=SC2086
            make ${makefile:+-f $makefile} $(if [ -n "${enableParallelChecking-1}" ]; then _parallel; fi) SHELL=/bin/bash "${flags[@]}" $target
        fi
    fi
    runHook postCheck
}

installPhase() {
    runHook preInstall
    if [ -z "${makeFlags:-}${installFlags:-}" ] && ! _hasMakefile; then
        echo "no Makefile or custom installPhase, doing nothing"
    else
        local -a flags=()
        if [ -n "$prefix" ]; then mkdir -p "$prefix"; fi
        concatTo flags makeFlags makeFlagsArray installFlags installFlagsArray
        # Several targets are allowed.
        # shellcheck disable=SC2086
        make ${makefile:+-f $makefile} SHELL=/bin/bash "${flags[@]}" ${installTargets[*]:-install}
    fi
    runHook postInstall
}

isScript() { local magic; IFS= read -r -n 2 magic < "$1" 2> /dev/null || return 1; [ "$magic" = '#!' ]; }
isELF() { _isElf "$1"; }
_isElf() { local magic; IFS= read -r -n 4 magic < "$1" 2> /dev/null || return 1; [ "$magic" = $'\177ELF' ]; }

_stripDir() {
    local file strip=${STRIP:-strip}
    while IFS= read -r -d '' file; do
        case "$file" in
            *.a) $strip -S -p -D "$file" 2> /dev/null || true ;;
            *) if _isElf "$file"; then
                   if [ -n "${stripAll:-}" ] || [[ "$file" == */bin/* || "$file" == */sbin/* ]]; then $strip "$file" 2> /dev/null || true
                   else $strip -S "$file" 2> /dev/null || true; fi
               fi ;;
        esac
    done < <(find "$1" -type f -print0)
}

# The first of the outputs named that there is, unless the package says which: `_chooseOutput outputDev dev out`.
_chooseOutput() {
    local variable=$1 name
    if [ -n "${!variable:-}" ]; then export "${variable?}"; return; fi
    shift
    for name in "$@"; do
        if [[ "$name" = REMOVE || " $_outputs " == *" $name "* ]]; then break; fi
    done
    export "$variable=$name"
}
_chooseOutputs() {
    local first=${_outputs%% *}
    _chooseOutput outputDev dev out "$first"
    _chooseOutput outputBin bin out "$first"
    _chooseOutput outputInclude "$outputDev"
    _chooseOutput outputLib lib out "$first"
    _chooseOutput outputDoc doc out "$first"
    _chooseOutput outputDevdoc devdoc REMOVE
    _chooseOutput outputMan man "$outputBin"
    _chooseOutput outputDevman devman devdoc "$outputMan"
    _chooseOutput outputInfo info "$outputBin"
}

# moveToOutput PATTERN OUTPUT: moves files from the other outputs, or away (`REMOVE`).
moveToOutput() {
    local pattern=$1 target output source
    if [ "$2" = REMOVE ]; then
        for output in $_outputs; do rm -rf -- "${!output}"/$pattern; done
        return
    fi
    target=${!2}
    for output in $_outputs; do
        if [ "${!output}" = "$target" ]; then continue; fi
        for source in "${!output}"/$pattern; do
            if [ ! -e "$source" ] && [ ! -L "$source" ]; then continue; fi
            mkdir -p "$target/$(dirname "${source#"${!output}"/}")"
            mv "$source" "$target/${source#"${!output}"/}"
            rmdir --ignore-fail-on-non-empty -p "$(dirname "$source")" 2> /dev/null || true
        done
    done
}

# What belongs to an output of its own.
_splitOutputs() {
    local file
    moveToOutput share/info "$outputInfo"
    moveToOutput share/doc "$outputDoc"
    moveToOutput share/gtk-doc "$outputDevdoc"
    moveToOutput share/devhelp/books "$outputDevdoc"
    moveToOutput share/man "$outputMan"
    if [ "$outputDevman" != "$outputMan" ]; then moveToOutput share/man/man3 "$outputDevman"; fi
    if [ -z "${moveToDev-1}" ]; then return; fi
    moveToOutput include "$outputInclude"
    for file in lib/pkgconfig share/pkgconfig lib/cmake share/aclocal; do moveToOutput "$file" "$outputDev"; done
    for file in "${!outputDev}"/lib/pkgconfig/*.pc "${!outputDev}"/share/pkgconfig/*.pc; do
        sed -i "/^includedir=/s,=\${prefix},=${!outputInclude}," "$file"
    done
}

# Where a configure script shall put things if there are several outputs.
_outputFlags() {
    if [[ "$_outputs" != *" "* || -z "${setOutputFlags-1}" ]]; then return; fi
    local name=${shareDocName:-${pname:-${name%%-[0-9]*}}}
    printf '%s\n' "--bindir=${!outputBin}/bin" "--sbindir=${!outputBin}/sbin" "--includedir=${!outputInclude}/include" \
        "--oldincludedir=${!outputInclude}/include" "--mandir=${!outputMan}/share/man" "--infodir=${!outputInfo}/share/info" \
        "--docdir=${!outputDoc}/share/doc/$name" "--libdir=${!outputLib}/lib" "--libexecdir=${!outputLib}/libexec" \
        "--localedir=${!outputLib}/share/locale"
}

fixupPhase() {
    local output
    for output in $_outputs; do if [ -e "${!output}" ]; then chmod -R u+w -- "${!output}"; fi; done
    runHook preFixup
    for output in $_outputs; do
        if [ ! -d "${!output}" ]; then continue; fi
        if [ -d "${!output}/sbin" ] && [ ! -L "${!output}/sbin" ] && [ -z "${dontMoveSbin:-}" ]; then
            mkdir -p "${!output}/bin"
            local program
            for program in "${!output}"/sbin/*; do mv "$program" "${!output}/bin/"; done
            rmdir "${!output}/sbin"
            ln -s bin "${!output}/sbin"
        fi
        local place
        for place in man doc info; do
            if [ -d "${!output}/$place" ] && [ ! -e "${!output}/share/$place" ]; then
                mkdir -p "${!output}/share"
                mv "${!output}/$place" "${!output}/share/"
            fi
        done
        if [ -z "${dontPatchShebangs:-}" ]; then patchShebangs "${!output}"; fi
        if [ -z "${dontStrip:-}" ] && command -v strip > /dev/null; then _stripDir "${!output}"; fi
        # Compressed manuals carry no time.
        find "${!output}" -type f -path '*/share/man/*' ! -name '*.gz' -exec gzip -n9f {} + 2> /dev/null || true
        rm -f "${!output}/share/info/dir"
    done
    if [[ "$_outputs" = *" "* ]]; then _splitOutputs; fi
    # Whoever builds against this gets what it was built with, and its other parts.
    local -a propagated=(${propagatedBuildInputs[*]:-})
    if [[ "$_outputs" = *" "* ]]; then
        for output in "$outputBin" "$outputInclude" "$outputLib"; do
            if [[ "$output" != "$outputDev" && " ${propagated[*]} " != *" ${!output} "* ]]; then propagated+=("${!output}"); fi
        done
    fi
    if [ "${#propagated[@]}" -gt 0 ] && [ -d "${!outputDev}" ]; then
        mkdir -p "${!outputDev}/nix-support"
        printf '%s ' "${propagated[@]}" > "${!outputDev}/nix-support/propagated-build-inputs"
    fi
    if [ -n "${setupHook:-}" ]; then
        mkdir -p "$out/nix-support"
        substituteAll "$setupHook" "$out/nix-support/setup-hook"
    fi
    runHook postFixup
}

installCheckPhase() {
    runHook preInstallCheck
    if _hasMakefile && make -n ${makefile:+-f $makefile} "${installCheckTarget:-installcheck}" > /dev/null 2>&1; then
        local -a flags=()
        concatTo flags makeFlags makeFlagsArray installCheckFlags installCheckFlagsArray
        make ${makefile:+-f $makefile} SHELL=/bin/bash "${flags[@]}" "${installCheckTarget:-installcheck}"
    else
        echo "no installcheck target, doing nothing"
    fi
    runHook postInstallCheck
}

distPhase() {
    runHook preDist
    local -a flags=()
    concatTo flags distFlags distFlagsArray
    make "${flags[@]}" "${distTarget:-dist}"
    if [ -z "${dontCopyDist:-}" ]; then mkdir -p "$out/tarballs"; cp -pvd ${tarballs[*]:-*.tar.gz} "$out/tarballs"; fi
    runHook postDist
}

_phaseIsOff() {
    case "$1" in
        unpackPhase) [ -n "${dontUnpack:-}" ] ;;
        patchPhase) [ -n "${dontPatch:-}" ] ;;
        configurePhase) [ -n "${dontConfigure:-}" ] ;;
        buildPhase) [ -n "${dontBuild:-}" ] ;;
        checkPhase) [ -z "${doCheck:-}" ] ;;
        installPhase) [ -n "${dontInstall:-}" ] ;;
        fixupPhase) [ -n "${dontFixup:-}" ] ;;
        installCheckPhase) [ -z "${doInstallCheck:-}" ] ;;
        distPhase) [ -z "${doDist:-}" ] ;;
        *) false ;;
    esac
}

runPhase() {
    local phase=$1
    if _phaseIsOff "$phase"; then return; fi
    echo "Running phase: $phase"
    # An attribute of the phase's name replaces the function.
    if [ -n "${!phase:-}" ]; then eval "${!phase}"; else "$phase"; fi
    if [ "$phase" = unpackPhase ]; then cd -- "${sourceRoot:-.}"; fi
}

genericBuild() {
    local phase
    if [ -n "${buildCommandPath:-}" ]; then source "$buildCommandPath"; return; fi
    if [ -n "${buildCommand:-}" ]; then eval "$buildCommand"; return; fi
    if [ -z "${phases:-}" ]; then
        phases="${prePhases[*]:-} unpackPhase patchPhase ${preConfigurePhases[*]:-} configurePhase ${preBuildPhases[*]:-} buildPhase checkPhase
            ${preInstallPhases[*]:-} installPhase ${preFixupPhases[*]:-} fixupPhase installCheckPhase ${preDistPhases[*]:-} distPhase ${postPhases[*]:-}"
    fi
    for phase in ${phases[*]}; do runPhase "$phase"; done
}

