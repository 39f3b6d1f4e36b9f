{ lib }:
rec {
  keepAttrs = wanted: set: builtins.removeAttrs set (builtins.filter (name: !wanted name set.${name}) (builtins.attrNames set));
  onlyIf = condition: set: if condition then set else { };
  isPackage = value: builtins.isAttrs value && value.type or null == "derivation";
  # An output of a package, if nobody chose one before.
  outputOf = name: package: if package.chosen or false then package else package.${name} or package.out or package;
}
