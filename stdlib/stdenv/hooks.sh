# Functions that packages call to install things, and what a tool among the inputs changes in the phases.

# makeWrapper PROGRAM WRAPPER [--set NAME TEXT | --set-default NAME TEXT | --unset NAME | --prefix NAME SEPARATOR TEXT |
#   --suffix NAME SEPARATOR TEXT | --add-flags TEXT | --append-flags TEXT | --run COMMAND | --chdir DIR]…
makeWrapper() {
    local program=$1 wrapper=$2 before= after=
    shift 2
    mkdir -p "$(dirname "$wrapper")"
    {
        echo '#!/bin/sh'
        while [ $# -gt 0 ]; do
            case "$1" in
                --set) printf 'export %s=%q\n' "$2" "$3"; shift 3 ;;
                --set-default) printf 'export %s="${%s-%s}"\n' "$2" "$2" "$3"; shift 3 ;;
                --unset) printf 'unset %s\n' "$2"; shift 2 ;;
                --prefix) printf 'export %s="%s${%s:+%s}$%s"\n' "$2" "$4" "$2" "$3" "$2"; shift 4 ;;
                --suffix) printf 'export %s="$%s${%s:+%s}%s"\n' "$2" "$2" "$2" "$3" "$4"; shift 4 ;;
                --add-flags|--add-flag) before="$before $2"; shift 2 ;;
                --append-flags|--append-flag) after="$after $2"; shift 2 ;;
                --run) printf '%s\n' "$2"; shift 2 ;;
                --chdir) printf 'cd %q\n' "$2"; shift 2 ;;
                --argv0) shift 2 ;;
                --inherit-argv0|--resolve-argv0) shift ;;
                *) echo "makeWrapper: unknown argument '$1'" >&2; return 1 ;;
            esac
        done
        printf 'exec %q%s "$@"%s\n' "$program" "$before" "$after"
    } > "$wrapper"
    chmod +x "$wrapper"
}
makeBinaryWrapper() { makeWrapper "$@"; }
makeShellWrapper() { makeWrapper "$@"; }

# wrapProgram PROGRAM …: the program moves aside, and a wrapper takes its place.
wrapProgram() {
    local program=$1 hidden
    shift
    hidden="$(dirname "$program")/.$(basename "$program")-wrapped"
    while [ -e "$hidden" ]; do hidden="${hidden}_"; done
    mv "$program" "$hidden"
    makeWrapper "$hidden" "$program" "$@"
}
wrapProgramShell() { wrapProgram "$@"; }

installBin() { install -Dm755 -t "${bin:-$out}/bin" "$@"; }

installManPage() {
    local page name
    for page in "$@"; do
        name=${page##*/}
        name=${name%.gz}
        install -Dm644 -t "${man:-$out}/share/man/man${name##*.}" "$page"
    done
}

# installShellCompletion [--cmd NAME] [--name FILE] [--bash|--fish|--zsh] FILE…
installShellCompletion() {
    local shell= command= name= target base
    while [ $# -gt 0 ]; do
        case "$1" in
            --bash|--fish|--zsh) shell=${1#--} ;;
            --cmd) command=$2; shift ;;
            --name) name=$2; shift ;;
            --) ;;
            *)  base=${1##*/}
                case "${shell:-${1##*.}}" in
                    bash) target=bash-completion/completions/${name:-${command:-${base%.bash}}} ;;
                    fish) target=fish/vendor_completions.d/${name:-${command:-${base%.fish}}.fish} ;;
                    zsh) base=${base#_}; target=zsh/site-functions/${name:-_${command:-${base%.zsh}}} ;;
                    *) echo "installShellCompletion: which shell is '$1' for?" >&2; return 1 ;;
                esac
                mkdir -p "$(dirname "$out/share/$target")"
                cat "$1" > "$out/share/$target"
                name= ;;
        esac
        shift
    done
}

# What a tool among the inputs changes: `cmake` configures, `meson` and `ninja` build, and so on, unless the package says
# how it is done or `dontUse…` is set.
_useInputHooks() {
    local hook
    for hook in ${inputHooks[*]:-}; do
        case "$hook" in
            cmake) if [ -z "${configurePhase:-}${dontUseCmakeConfigure:-}" ]; then configurePhase=cmakeConfigurePhase; fi ;;
            meson)
                if [ -z "${configurePhase:-}${dontUseMesonConfigure:-}" ]; then
                    configurePhase=mesonConfigurePhase
                    : "${checkPhase:=mesonCheckPhase}" "${installPhase:=mesonInstallPhase}"
                fi ;;
            ninja)
                _ninja=1
                if [ -z "${dontUseNinjaBuild:-}" ]; then : "${buildPhase:=ninjaBuildPhase}"; fi
                if [ -z "${dontUseNinjaCheck:-}" ]; then : "${checkPhase:=ninjaCheckPhase}"; fi
                if [ -z "${dontUseNinjaInstall:-}" ]; then : "${installPhase:=ninjaInstallPhase}"; fi ;;
            autoreconf) prependToVar preConfigurePhases autoreconfPhase ;;
            version-check) preInstallCheckHooks+=(versionCheck) ;;
            copy-desktop-items) preFixupHooks+=(copyDesktopItems) ;;
            newer-sources) postUnpackHooks+=(_newerSources) ;;
            validate-pkg-config) preInstallCheckHooks+=(validatePkgConfig); postFixupHooks+=(validatePkgConfig) ;;
        esac
    done
}

autoreconfPhase() {
    runHook preAutoreconf
    autoreconf ${autoreconfFlags[*]:---install --force --verbose}
    runHook postAutoreconf
}

# A directory of an output: as it is below the prefix, or in full where it is in another output.
_below() { if [ "${!1}" = "$prefix" ]; then echo "$2"; else echo "${!1}/$2"; fi; }

cmakeConfigurePhase() {
    runHook preConfigure
    local -a flags=(
        "-DCMAKE_INSTALL_PREFIX=$prefix" "-DCMAKE_BUILD_TYPE=${cmakeBuildType:-Release}" "-DCMAKE_INSTALL_LIBDIR=$(_below "$outputLib" lib)"
        "-DCMAKE_INSTALL_BINDIR=$(_below "$outputBin" bin)" "-DCMAKE_INSTALL_SBINDIR=$(_below "$outputBin" bin)"
        "-DCMAKE_INSTALL_INCLUDEDIR=$(_below "$outputInclude" include)" "-DCMAKE_INSTALL_MANDIR=$(_below "$outputMan" share/man)"
        -DCMAKE_SKIP_BUILD_RPATH=ON "-DCMAKE_INSTALL_RPATH=$_ownLibraries"
        -DCMAKE_EXPORT_NO_PACKAGE_REGISTRY=ON "-DBUILD_TESTING=$(if [ -n "${doCheck:-}" ]; then echo ON; else echo OFF; fi)"
    )
    if [ -n "${_ninja:-}" ]; then flags+=(-GNinja); fi
    if [ -n "${crossPrefix:-}" ]; then
        flags+=(-DCMAKE_SYSTEM_NAME=Linux "-DCMAKE_SYSTEM_PROCESSOR=$crossCpu" "-DCMAKE_LIBRARY_ARCHITECTURE=${crossPrefix%-}")
    fi
    concatTo flags cmakeFlags cmakeFlagsArray
    if [ -z "${dontUseCmakeBuildDir:-}" ]; then
        mkdir -p "${cmakeBuildDir:=build}"
        cd "$cmakeBuildDir"
        : "${cmakeDir:=..}"
    fi
    echoCmd 'cmake flags' "${flags[@]}"
    cmake "${cmakeDir:-.}" "${flags[@]}"
    # Tests run before anything is installed: they find the libraries where they were built.
    if [ -n "${doCheck:-}" ]; then export LD_LIBRARY_PATH="$PWD${LD_LIBRARY_PATH:+:}${LD_LIBRARY_PATH:-}"; fi
    runHook postConfigure
}

mesonConfigurePhase() {
    runHook preConfigure
    local -a flags=("--prefix=$prefix" "--libdir=$(_below "$outputLib" lib)" "--bindir=$(_below "$outputBin" bin)"
        "--sbindir=$(_below "$outputBin" bin)" "--includedir=$(_below "$outputInclude" include)" "--mandir=$(_below "$outputMan" share/man)" "--buildtype=${mesonBuildType:-plain}" --wrap-mode=nodownload)
    concatTo flags mesonFlags mesonFlagsArray
    if [ -n "${crossPrefix:-}" ]; then
        printf '[binaries]\nc = "%s"\ncpp = "%s"\nar = "%s"\nstrip = "%s"\npkgconfig = "pkg-config"\n' "$CC" "$CXX" "$AR" "$STRIP" > "$NIX_BUILD_TOP/cross.ini"
        printf '[host_machine]\nsystem = "linux"\ncpu_family = "%s"\ncpu = "%s"\nendian = "little"\n' "$crossCpu" "$crossCpu" >> "$NIX_BUILD_TOP/cross.ini"
        flags+=("--cross-file=$NIX_BUILD_TOP/cross.ini")
    fi
    echoCmd 'meson flags' "${flags[@]}"
    meson setup build "${flags[@]}"
    cd build
    runHook postConfigure
}
mesonCheckPhase() { runHook preCheck; meson test --no-rebuild --print-errorlogs ${mesonCheckFlags[*]:-}; runHook postCheck; }
mesonInstallPhase() { runHook preInstall; meson install --no-rebuild ${mesonInstallFlags[*]:-}; runHook postInstall; }

ninjaBuildPhase() { runHook preBuild; ninja $(_parallel) ${ninjaFlags[*]:-} ${buildFlags[*]:-}; runHook postBuild; }
ninjaCheckPhase() { runHook preCheck; ninja $(_parallel) ${ninjaFlags[*]:-} "${checkTarget:-test}"; runHook postCheck; }
ninjaInstallPhase() { runHook preInstall; ninja ${ninjaFlags[*]:-} ${installTargets:-install}; runHook postInstall; }

_newerSources() { find . -type f ! -newermt 1980-01-02 -exec touch -d 1980-01-02 {} +; }

copyDesktopItems() {
    local item file
    for item in ${desktopItems[*]:-}; do
        for file in "$item" "$item"/share/applications/*.desktop; do
            if [ -f "$file" ]; then install -Dm644 "$file" "$out/share/applications/$(stripHash "$file")"; fi
        done
    done
}

validatePkgConfig() {
    local output file
    for output in $_outputs; do
        for file in "${!output}"/lib/pkgconfig/*.pc "${!output}"/share/pkgconfig/*.pc; do pkg-config --validate "$file"; done
    done
}

# Hashes of store paths become letters of which no path is made.
_forgetHash() {
    local hash=$1
    shift
    sed -i "s|/nix/store/$hash-|/nix/store/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-|g" "$@"
}
remove-references-to() {
    local -a paths=()
    local path
    while [ "${1:-}" = -t ]; do paths+=("$2"); shift 2; done
    for path in "${paths[@]}"; do path=${path#/nix/store/}; _forgetHash "${path:0:32}" "$@"; done
}
nuke-refs() { sed -i -E 's|/nix/store/[0-9a-z]{32}-|/nix/store/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-|g' "$@"; }
export -f remove-references-to nuke-refs _forgetHash

# lndir FROM TO: a tree of links to the files of another.
lndir() { (cd "${2:-.}" && cp -rs --no-preserve=mode "$1"/. .); }

# Fails unless the program says its version.
versionCheck() {
    local program="${versionCheckProgram:-$out/bin/${mainProgram:-${pname:-}}}" said
    said=$("$program" ${versionCheckProgramArg:---version} 2>&1) || true
    if [[ "${said//"$out"/}" != *"$version"* ]]; then
        echo "$program does not say its version, $version, but: $said" >&2
        exit 1
    fi
}

