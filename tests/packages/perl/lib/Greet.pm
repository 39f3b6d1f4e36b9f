package Greet;
our $VERSION = "1.0";
sub hi { "hello from perl" }
1;
