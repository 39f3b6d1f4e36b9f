{ lib }:
let
  inherit (builtins) stringLength substring;
in
rec {
  joined = builtins.concatStringsSep;
  startsWith = start: text: substring 0 (stringLength start) text == start;
  endsWith = end: text:
    let
      from = stringLength text - stringLength end;
    in
    from >= 0 && substring from (-1) text == end;
  withoutEnd = end: text: if endsWith end text then substring 0 (stringLength text - stringLength end) text else text;
  flag = on: name: "--${if on then "enable" else "disable"}-${name}";
}
