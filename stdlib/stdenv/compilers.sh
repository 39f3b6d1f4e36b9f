# Compilers and the linker as builds see them: each with a word in front.

# The directory of the build must not reach the result: debug information, and the build ids made of it, name it. The
# processor of the build must not either: `-march=native` is dropped.
_wrapCompilers() {
    local name real dir="${NIX_BUILD_TOP:-/build}/.compilers"
    mkdir -p "$dir"
    for name in gcc g++ cc c++ clang clang++ ${crossPrefix:+"${crossPrefix}gcc" "${crossPrefix}g++"}; do
        real=$(command -v "$name") || continue
        cat > "$dir/$name" << EOF
#!/bin/sh
for word in "\$@"; do
    shift
    case "\$word" in -march=native|-mcpu=native|-mtune=native) ;; *) set -- "\$@" "\$word" ;; esac
done
exec $real -B$dir/${name%%"${name#"${crossPrefix:-}"}"} -ffile-prefix-map=${NIX_BUILD_TOP:-/build}=/build \$NIX_CFLAGS_COMPILE "\$@"
EOF
        chmod +x "$dir/$name"
    done
    for name in ld ${crossPrefix:+"${crossPrefix}ld"}; do
        real=$(command -v "$name") || continue
        printf '#!/bin/bash\nreal=%s\n%s\n' "$real" "$_ldWrapper" > "$dir/$name"
        chmod +x "$dir/$name"
    done
    PATH="$dir:$PATH"
}

# Libraries that lie in the store are not where the loader looks: the program has to say where they are. A library of this
# very build will be in its output.
_ldWrapper=$(cat << 'EOF'
words=() dirs=() libs=() rpaths=()
for word in "$@"; do
    if [[ "$word" = @* && -r "${word#@}" ]]; then words+=($(< "${word#@}")); else words+=("$word"); fi
done
words+=($NIX_LDFLAGS)
previous=
for word in "${words[@]}"; do
    case "$previous$word" in
        -r|-i|--relocatable|-static|-Bstatic) exec "$real" "$@" $NIX_LDFLAGS ;;
        -L?*) dirs+=("${word#-L}") ;;
        -l?*) libs+=("lib${word#-l}.so") ;;
        -*) ;;
        */*.so|*/*.so.*) dirs+=("${word%/*}"); libs+=("${word##*/}") ;;
        *.so|*.so.*) dirs+=(.); libs+=("$word") ;;
    esac
    case "$word" in -L|-l|-o|-soname|-h|-rpath|-rpath-link|-dynamic-linker|-plugin) previous=$word ;; *) previous= ;; esac
done
for lib in "${libs[@]}"; do
    for dir in "${dirs[@]}"; do
        if [[ ! -e "$dir/$lib" ]]; then continue; fi
        dir=$(cd "$dir" && pwd)
        case "$dir" in
            /nix/store/*) ;;
            "$NIX_BUILD_TOP"/*) dir=$_ownLibraries ;;
            *) dir= ;;
        esac
        if [[ -n "$dir" && " ${rpaths[*]} " != *" $dir "* ]]; then rpaths+=(-rpath "$dir"); fi
        break
    done
done
exec "$real" "$@" $NIX_LDFLAGS "${rpaths[@]}"
EOF
)

