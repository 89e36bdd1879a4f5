//! Nothing but judgement makes an `Admitted`: every other way is an error of the compiler.

#[test]
fn nothing_but_judgement_makes_an_admitted_configuration() {
    let cases = trybuild::TestCases::new();
    // The control: the one way that there is compiles.
    cases.pass("tests/ui/judged.rs");
    cases.compile_fail("tests/ui/literal.rs");
    cases.compile_fail("tests/ui/default.rs");
    cases.compile_fail("tests/ui/deserialize.rs");
    cases.compile_fail("tests/ui/from_refusal.rs");
    cases.compile_fail("tests/ui/changed.rs");
}
