{ lib, system }:
{ url ? builtins.head urls, urls ? [ url ], hash, name ? baseNameOf (toString url), isTree ? false, passthru ? { }, meta ? { } }:
derivation {
  inherit name urls;
  system = "builtin";
  builder = "builtin:fetchurl";
  preferLocalBuild = true;
  outputHash = hash;
  outputHashMode = if isTree then "recursive" else "flat";
  impureEnvVars = [ "http_proxy" "https_proxy" "no_proxy" ];
} // { inherit meta; } // passthru
