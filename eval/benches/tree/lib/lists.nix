{ lib }:
rec {
  maybe = condition: list: if condition then list else [ ];
  asList = value: if builtins.isList value then value else [ value ];
  distinct = builtins.foldl' (before: one: if builtins.elem one before then before else before ++ [ one ]) [ ];
  every = f: list: builtins.foldl' (fine: one: fine && f one) true list;
}
