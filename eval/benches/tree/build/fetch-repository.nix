{ lib, fetchurl }:
{ owner, repo, tag ? null, rev ? "refs/tags/${tag}", hash, ... }@args:
fetchurl (builtins.removeAttrs args [ "owner" "repo" "tag" "rev" ] // {
  name = "source";
  isTree = true;
  url = "mirror://repositories/${owner}/${repo}/${rev}.tar.gz";
}) // { inherit owner repo rev; }
