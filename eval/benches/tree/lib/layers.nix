{ lib }:
rec {
  # The set that `f` makes of itself.
  fixed = f: let whole = f whole; in whole;
  # What `f` makes, with what `layer` makes of it on top.
  layered = f: layer: final: let below = f final; in below // layer final below;
  composed = builtins.foldl' layered (final: { });
}
