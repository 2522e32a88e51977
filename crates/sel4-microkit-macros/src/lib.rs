//! The procedural macros of `sel4-microkit`, which re-exports them.
#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Ident, ItemFn, Token, parse_macro_input};

/// The options of `#[protection_domain(...)]`.
#[derive(Default)]
struct Options {
    heap_size: Option<Expr>,
}

impl Parse for Options {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let mut options = Self::default();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            let value: Expr = input.parse()?;
            match name.to_string().as_str() {
                "heap_size" if options.heap_size.is_none() => options.heap_size = Some(value),
                "heap_size" => {
                    return Err(syn::Error::new(name.span(), "heap_size is given twice"));
                }
                "stack_size" => {
                    return Err(syn::Error::new(
                        name.span(),
                        "the stack lies above a guard page that the system description makes: \
                         give stack_size in its <protection_domain> element",
                    ));
                }
                _ => {
                    return Err(syn::Error::new(
                        name.span(),
                        "unknown option; known: heap_size",
                    ));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

/// Makes a function the start of a protection domain.
///
/// The function has no parameters and returns a `Handler`. With
/// `heap_size = bytes` the program also gets a global allocator with a heap of
/// that size. See the documentation of `sel4_microkit` for an example.
#[proc_macro_attribute]
pub fn protection_domain(options: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(options as Options);
    let function = parse_macro_input!(item as ItemFn);
    let name = &function.sig.ident;
    if let Some(first) = function.sig.inputs.first() {
        let message = "the start of a protection domain has no parameters";
        return syn::Error::new_spanned(first, message)
            .to_compile_error()
            .into();
    }
    let heap = match options.heap_size {
        Some(size) => quote!(::sel4_microkit::_heap!(#size);),
        None => quote!(::sel4_microkit::_no_heap!();),
    };
    quote! {
        #function
        ::sel4_microkit::_entry!(#name);
        #heap
    }
    .into()
}

/// The options of `region!(...)`: a name and perhaps a length.
struct RegionOptions {
    name: Ident,
    length: Option<Expr>,
}

impl Parse for RegionOptions {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let name = input.parse()?;
        let mut length = None;
        if input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            length = Some(input.parse()?);
        }
        Ok(Self { name, length })
    }
}

fn region_of(input: RegionOptions, function: &str) -> TokenStream {
    let RegionOptions { name, length } = input;
    let text = name.to_string();
    let length = length.map_or_else(
        || {
            let size = format_ident!("{}_size", name);
            quote!(*::sel4_microkit::var!(#size: u64 = 0))
        },
        |length| quote!(#length as u64),
    );
    let function = format_ident!("{}", function);
    quote! {
        ::sel4_microkit::#function!(#text, *::sel4_microkit::var!(#name: u64 = 0), #length)
    }
    .into()
}

/// The memory region that the system description maps for this program, as a
/// `segue_shared_memory::Region`.
///
/// `region!(name)` reads the symbols `name` (`setvar_vaddr`) and `name_size`
/// (`setvar_size`, or patched by the image builder unasked);
/// `region!(name, length)` takes the length from the program. To be used once
/// for each name. Panics if the system description does not set the symbols.
#[proc_macro]
pub fn region(input: TokenStream) -> TokenStream {
    region_of(parse_macro_input!(input as RegionOptions), "_named_region")
}

/// Like `region!`, for memory that this program alone writes (or nobody):
/// yields a `segue_shared_memory::PrivateRegion`, which lends slices.
#[proc_macro]
pub fn private_region(input: TokenStream) -> TokenStream {
    region_of(
        parse_macro_input!(input as RegionOptions),
        "_named_private_region",
    )
}
