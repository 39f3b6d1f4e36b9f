source $stdenv/setup
buildAll
