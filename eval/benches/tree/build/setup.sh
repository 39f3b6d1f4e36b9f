# What all builders share.
buildAll() {
  for phase in unpack patch configure build check install; do $phase; done
}
