use Test::More tests => 1; use Greet; is(Greet::hi(), "hello from perl");
